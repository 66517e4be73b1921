//! A gateway in the image: where clients reach the cluster through it.

use strom_proto::convert::MalformedField;
use strom_proto::v1;
use uuid::Uuid;

use super::partition::{uuid, uuid_bytes};

/// One Kafka listener of a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayListener {
    pub name: String,
    /// As clients are told it.
    pub host: String,
    pub bootstrap_port: u16,
    /// The port of broker id `b` is this + `b`; `None` = every broker is reached at the bootstrap port.
    pub per_broker_port_base: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayImage {
    pub id: Uuid,
    pub listeners: Vec<GatewayListener>,
    pub rack: Option<String>,
}

impl GatewayImage {
    pub(crate) fn from_record(record: &v1::GatewayRecord) -> Result<Self, MalformedField> {
        Ok(GatewayImage {
            id: uuid(&record.gateway_id)?,
            listeners: record.listeners.iter().map(listener).collect::<Result<_, _>>()?,
            rack: (!record.rack.is_empty()).then(|| record.rack.clone()),
        })
    }

    pub(crate) fn to_record(&self) -> v1::GatewayRecord {
        let listener = |listener: &GatewayListener| v1::GatewayListener {
            name: listener.name.clone(),
            host: listener.host.clone(),
            bootstrap_port: i32::from(listener.bootstrap_port),
            per_broker_port_base: listener.per_broker_port_base.map_or(0, i32::from),
        };
        v1::GatewayRecord {
            gateway_id: uuid_bytes(&self.id),
            listeners: self.listeners.iter().map(listener).collect(),
            rack: self.rack.clone().unwrap_or_default(),
        }
    }
}

fn listener(record: &v1::GatewayListener) -> Result<GatewayListener, MalformedField> {
    let port = |number: i32| u16::try_from(number).map_err(|_| MalformedField { field: "port" });
    let base = port(record.per_broker_port_base)?;
    Ok(GatewayListener {
        name: record.name.clone(),
        host: record.host.clone(),
        bootstrap_port: port(record.bootstrap_port)?,
        per_broker_port_base: (base != 0).then_some(base),
    })
}
