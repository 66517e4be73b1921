//! A broker in this process: it reads requests with the codec and answers by a script.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use strom_kafka_codec::messages::api_versions_response::ApiVersion;
use strom_kafka_codec::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use strom_kafka_codec::messages::{
    ApiVersionsResponse, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
};
use strom_kafka_codec::{
    ApiKey, Decoder, FrameReader, Request, RequestFrame, Response, encode_response_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the broker does with a request.
pub(super) enum Answer {
    Reply(Bytes),
    /// Nothing at all, for ever.
    Silence,
    /// Closes the connection.
    Hangup,
}

/// A request with its header read.
pub(super) struct Call {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) port: u16,
    correlation_id: i32,
    body: Decoder,
}

impl Call {
    pub(super) fn read<R: Request>(&self) -> R {
        assert_eq!(self.key, R::KEY);
        self.body.clone().message(self.version).unwrap()
    }

    pub(super) fn reply<R: Response>(&self, response: &R) -> Answer {
        self.reply_as(self.version, response)
    }

    /// In another version than was asked for.
    pub(super) fn reply_as<R: Response>(&self, version: i16, response: &R) -> Answer {
        assert_eq!(self.key, R::KEY);
        let frame = encode_response_frame(self.correlation_id, version, response).unwrap();
        Answer::Reply(frame.into_contiguous())
    }

    /// The answers that most scripts need: the APIs of Kafka, one broker with id 1 and topics of so many partitions,
    /// itself as every group's coordinator.
    pub(super) fn basics(&self, topics: &[(&'static str, i32)]) -> Answer {
        match self.key {
            ApiKey::ApiVersions => self.reply(&api_versions()),
            ApiKey::Metadata => self.reply(&self.metadata(topics)),
            ApiKey::FindCoordinator => self.reply(&FindCoordinatorResponse {
                node_id: 1,
                host: "127.0.0.1".into(),
                port: i32::from(self.port),
                ..Default::default()
            }),
            other => panic!("no answer in the script for {other}"),
        }
    }

    fn metadata(&self, topics: &[(&'static str, i32)]) -> MetadataResponse {
        let asked = self.read::<MetadataRequest>().topics;
        let names: Vec<String> = match &asked {
            None => topics.iter().map(|(name, _)| (*name).to_owned()).collect(),
            Some(asked) => asked
                .iter()
                .map(|t| t.name.as_deref().unwrap_or_default().to_owned())
                .collect(),
        };
        let partition = |index| MetadataResponsePartition {
            partition_index: index,
            leader_id: 1,
            leader_epoch: 4,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1],
            offline_replicas: vec![2],
            ..Default::default()
        };
        let described = names.into_iter().map(|name| {
            let known = topics.iter().find(|(topic, _)| *topic == name);
            MetadataResponseTopic {
                error_code: if known.is_some() { 0 } else { 3 },
                is_internal: name.starts_with("__"),
                topic_id: uuid::Uuid::from_u128(if known.is_some() { 7 } else { 0 }),
                partitions: (0..known.map_or(0, |(_, count)| *count)).map(partition).collect(),
                name: Some(name.into()),
                ..Default::default()
            }
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: "127.0.0.1".into(),
                port: i32::from(self.port),
                rack: None,
            }],
            cluster_id: Some("fake".into()),
            controller_id: 1,
            topics: described.collect(),
            ..Default::default()
        }
    }
}

/// Every API of Kafka's brokers.
pub(super) fn api_versions() -> ApiVersionsResponse {
    let keys = ApiKey::ALL
        .iter()
        .filter(|key| key.on_broker_listener() && !key.versions().is_empty());
    ApiVersionsResponse {
        api_keys: keys
            .map(|key| ApiVersion {
                api_key: key.as_i16(),
                min_version: key.versions().min,
                max_version: key.latest_stable(),
            })
            .collect(),
        ..Default::default()
    }
}

/// The broker; it goes away with the runtime.
pub(super) struct FakeBroker {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<ApiKey>>>,
}

type Script = Arc<Mutex<dyn FnMut(&Call) -> Answer + Send>>;

impl FakeBroker {
    /// Answers by `script`, which sees every request of every connection in order of arrival.
    pub(super) async fn start(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Script, _) = (Arc::new(Mutex::new(script)), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, port, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self {
            address: format!("127.0.0.1:{port}"),
            seen,
        }
    }

    /// How many requests of a kind have come.
    pub(super) fn count(&self, key: ApiKey) -> usize {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| **seen == key)
            .count()
    }
}

async fn serve(mut stream: TcpStream, port: u16, script: Script, log: Arc<Mutex<Vec<ApiKey>>>) {
    let mut frames = FrameReader::new(1 << 20);
    loop {
        while let Some(frame) = frames.next_frame().unwrap() {
            let RequestFrame {
                api_key,
                header,
                body,
            } = RequestFrame::decode(frame).unwrap();
            let call = Call {
                key: api_key,
                version: header.request_api_version,
                correlation_id: header.correlation_id,
                port,
                body,
            };
            log.lock().unwrap().push(api_key);
            let answer = script.lock().unwrap()(&call);
            match answer {
                Answer::Reply(bytes) => stream.write_all(&bytes).await.unwrap(),
                Answer::Silence => {}
                Answer::Hangup => return,
            }
        }
        if stream.read_buf(frames.buffer_mut()).await.unwrap_or(0) == 0 {
            return;
        }
    }
}
