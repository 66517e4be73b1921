//! IncrementalAlterConfigs (key 44) and AlterConfigs (key 33): changes of dynamic configs, through the controllers.

use strom_client::Effect;
use strom_config::Scope;
use strom_kafka_codec::messages::alter_configs_response::AlterConfigsResourceResponse as PlainResponse;
use strom_kafka_codec::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use strom_kafka_codec::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use strom_kafka_codec::{ByteStr, Decoder};
use strom_proto::v1;
use strom_proto::v1::ConfigResourceType;
use strom_proto::v1::config_op::Kind;
use strom_types::ErrorCode;

use super::admin::{ADMIN_TIMEOUT, Deadline, Verdict, change, send_valid};
use super::call::unary;
use super::list_config_resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Call, Start};

pub(super) fn start_incremental(call: Call, body: Decoder) -> Start {
    unary(call, body, incremental)
}

pub(super) fn start(call: Call, body: Decoder) -> Start {
    unary(call, body, plain)
}

/// One resource of either request.
struct Change {
    resource_type: i8,
    resource_name: ByteStr,
    ops: Vec<Op>,
    replace_all: bool,
}

struct Op {
    key: ByteStr,
    /// As on the wire.
    kind: i8,
    value: Option<ByteStr>,
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn incremental(call: Call, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let changes = request.resources.into_iter().map(|resource| Change {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ops: resource
            .configs
            .into_iter()
            .map(|config| Op {
                key: config.name,
                kind: config.config_operation,
                value: config.value,
            })
            .collect(),
        replace_all: false,
    });
    let done = alter(&call, changes.collect(), request.validate_only).await;
    let responses =
        done.into_iter().map(
            |(resource_type, resource_name, verdict)| AlterConfigsResourceResponse {
                error_code: verdict.code(),
                error_message: verdict.message,
                resource_type,
                resource_name,
            },
        );
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

async fn plain(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let changes = request.resources.into_iter().map(|resource| Change {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ops: resource
            .configs
            .into_iter()
            .map(|config| Op {
                key: config.name,
                kind: SET,
                value: config.value,
            })
            .collect(),
        replace_all: true,
    });
    let done = alter(&call, changes.collect(), request.validate_only).await;
    let responses = done
        .into_iter()
        .map(|(resource_type, resource_name, verdict)| PlainResponse {
            error_code: verdict.code(),
            error_message: verdict.message,
            resource_type,
            resource_name,
        });
    AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

/// What came of each change, in order.
async fn alter(call: &Call, changes: Vec<Change>, validate_only: bool) -> Vec<(i8, ByteStr, Verdict)> {
    let named: Vec<(i8, ByteStr)> = changes
        .iter()
        .map(|change| (change.resource_type, change.resource_name.clone()))
        .collect();
    let resources = changes.into_iter().map(resource);
    let answers = send_valid(resources, |resources| send(call, resources, validate_only)).await;
    named
        .into_iter()
        .zip(answers)
        .map(|((resource_type, name), answer)| {
            let verdict = answer.map_or_else(|refused| refused, |()| Verdict::of_item(None));
            (resource_type, name, verdict)
        })
        .collect()
}

fn resource(change: Change) -> Result<v1::AlterConfigsResource, Verdict> {
    let invalid = |message: String| Err(Verdict::refused(ErrorCode::InvalidRequest, message));
    let resource_type = match change.resource_type {
        TOPIC => ConfigResourceType::Topic,
        BROKER => ConfigResourceType::Broker,
        CLIENT_METRICS => ConfigResourceType::ClientMetrics,
        GROUP => ConfigResourceType::Group,
        BROKER_LOGGER => {
            return invalid(
                "Loggers have no levels of their own; set the log filter at the start.".to_owned(),
            );
        }
        other => return invalid(format!("Unknown resource type {other}")),
    };
    let null = |op: &&Op| op.kind != DELETE && op.value.is_none();
    let nulls: Vec<&str> = change.ops.iter().filter(null).map(|op| op.key.as_str()).collect();
    if !nulls.is_empty() {
        return invalid(format!("Null value not supported for : {}", nulls.join(",")));
    }
    let mut ops = Vec::with_capacity(change.ops.len());
    for op in change.ops {
        let kind = match op.kind {
            SET => Kind::Set,
            DELETE => Kind::Delete,
            APPEND => Kind::Append,
            SUBTRACT => Kind::Subtract,
            other => return invalid(format!("Unknown operation type {other} on {}", op.key)),
        };
        ops.push(v1::ConfigOp {
            key: String::from(op.key),
            kind: kind.into(),
            value: op.value.map(String::from),
        });
    }
    Ok(v1::AlterConfigsResource {
        resource_type: resource_type.into(),
        resource_name: String::from(change.resource_name),
        ops,
        replace_all: change.replace_all,
    })
}

/// One answer per resource, in order.
async fn send(
    call: &Call,
    resources: Vec<v1::AlterConfigsResource>,
    validate_only: bool,
) -> Result<Vec<Result<(), Verdict>>, Verdict> {
    let deadline = Deadline::after(ADMIN_TIMEOUT);
    let request = v1::AlterConfigsRequest {
        resources: resources.clone(),
        validate_only,
    };
    // A second call could undo what somebody else changed in between.
    let changed = change(
        call,
        deadline,
        Effect::Once,
        request,
        |mut stub, request| async move { stub.alter_configs(request).await },
    )
    .await?;
    let answers = resources
        .iter()
        .zip(&changed.reply.results)
        .map(|(resource, result)| {
            let mut verdict = changed.verdict(result.error.as_ref());
            if verdict.is_ok() && !validate_only {
                warn_of_idle_keys(call, resource);
            }
            // Kafka's code for a broker that is not there.
            if verdict.error == ErrorCode::BrokerIdNotRegistered {
                verdict.error = ErrorCode::InvalidRequest;
            }
            verdict.ok(())
        });
    Ok(answers.collect())
}

fn warn_of_idle_keys(call: &Call, resource: &v1::AlterConfigsResource) {
    let scope = match resource.resource_type() {
        ConfigResourceType::Topic => Scope::Topic,
        ConfigResourceType::Broker => Scope::Broker,
        ConfigResourceType::Group => Scope::Group,
        ConfigResourceType::ClientMetrics => Scope::ClientMetrics,
        ConfigResourceType::Unspecified => return,
    };
    let set = resource.ops.iter().filter(|op| op.kind() != Kind::Delete);
    call.gateway.idle_keys().set(scope, set.map(|op| op.key.as_str()));
}
