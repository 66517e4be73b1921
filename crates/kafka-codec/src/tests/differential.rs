//! Random messages against `kafka-protocol`, an independent implementation generated from Kafka 4.1.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage, StrBytes};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::*;
use crate::{Decoder, Encoder, Message, VersionRange, messages as ours};

/// Fields that came after Kafka 4.1, at the values they have in the versions of 4.1.
const NEWER_FIELDS: [&str; 9] = [
    ", ack_when_committed: true",
    ", delivery_complete_count: -1",
    ", is_cordoned: false",
    ", acquisition_lock_timeout_ms: 0",
    ", is_renew_ack: false",
    ", lag: -1",
    ", share_acquire_mode: 0",
    ", transaction_version: 0",
    ", cordoned_log_dirs: None",
];

/// What `kafka-protocol` prints, in our words: no newtypes, no fields for unknown tags.
fn normalised(theirs: &str) -> String {
    let mut text = theirs
        .replace(", unknown_tagged_fields: {}", "")
        .replace(" { unknown_tagged_fields: {} }", "");
    let spelled_otherwise = [
        (" _type: ", " type: "),
        (" _match: ", " match: "),
        ("enable_2_pc", "enable2_pc"),
    ];
    text = spelled_otherwise
        .iter()
        .fold(text, |text, (theirs, ours)| text.replace(theirs, ours));
    for newtype in [
        "BrokerId(",
        "GroupId(",
        "ProducerId(",
        "TopicName(",
        "TransactionalId(",
    ] {
        while let Some(at) = text.find(newtype) {
            // No literal in these tests holds a parenthesis.
            let end = at + text[at..].find(')').unwrap();
            text.remove(end);
            text.replace_range(at..at + newtype.len(), "");
        }
    }
    text
}

fn ours_encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version).unwrap();
    encoder.finish().into_contiguous()
}

fn ours_decoded<M: Message>(bytes: Bytes, version: i16) -> M {
    let mut decoder = Decoder::new(bytes);
    let message = decoder.message(version).unwrap();
    decoder.finish().unwrap();
    message
}

fn theirs_encoded<M: Encodable>(message: &M, version: i16) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    message
        .encode(&mut bytes, version)
        .map_err(|e| format!("they cannot encode: {e}"))?;
    Ok(bytes.freeze())
}

fn theirs_decoded<M: Decodable>(mut bytes: Bytes, version: i16) -> Result<M, String> {
    let message = M::decode(&mut bytes, version).map_err(|e| format!("they cannot decode: {e}"))?;
    if bytes.is_empty() {
        Ok(message)
    } else {
        Err(format!("they leave {} bytes", bytes.len()))
    }
}

/// Versions both sides speak.
fn common<O: Message, T: TheirMessage>() -> std::ops::RangeInclusive<i16> {
    let VersionRange { min, max } = O::VERSIONS;
    min.max(T::VERSIONS.min)..=max.min(T::VERSIONS.max)
}

/// Our random message goes through their codec and comes back: same bytes, same content on both sides.
fn exchange<O, T>(seed: u64, version: i16) -> Result<(), String>
where
    O: Message + Random,
    T: TheirMessage + Encodable + Decodable + Debug,
{
    let sent = O::random(&mut Gen::new(seed), version);
    let bytes = ours_encoded(&sent, version);
    let received: T = theirs_decoded(bytes.clone(), version)?;
    let (theirs, ours) = (normalised(&format!("{received:?}")), format!("{sent:?}"));
    // Kafka says `nullable 0` of ShareFetch records, which no version in use is.
    let bare = |text: &str| text.replace("Some(", "").replace(')', "");
    let same_but_nullable = O::NAME == "ShareFetchResponse" && bare(&theirs) == bare(&ours);
    let older = NEWER_FIELDS
        .iter()
        .fold(ours.clone(), |text, field| text.replace(field, ""));
    if theirs != ours && theirs != older && !same_but_nullable {
        return Err(format!("they read\n{theirs}\nwhere we wrote\n{ours}"));
    }
    let returned = theirs_encoded(&received, version)?;
    if returned != bytes {
        return Err(format!("they write\n{returned:x}\nwhere we wrote\n{bytes:x}"));
    }
    let back: O = ours_decoded(returned, version);
    if back == sent {
        Ok(())
    } else {
        Err(format!("{back:?}\ncame back for\n{sent:?}"))
    }
}

/// All versions of a message: how many passed.
fn exchange_versions<O, T>(failures: &mut Vec<String>) -> usize
where
    O: Message + Random,
    T: TheirMessage + Encodable + Decodable + Debug,
{
    let mut passed = 0;
    for version in common::<O, T>() {
        let ran = runner(64).run(&any::<u64>(), |seed| {
            exchange::<O, T>(seed, version).map_err(TestCaseError::fail)
        });
        match ran {
            Ok(()) => passed += 1,
            Err(e) => failures.push(format!("{} v{version}: {e}", O::NAME)),
        }
    }
    passed
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

/// All messages of 4.1 but `LeaderChangeMessage` and `VotersRecord`, whose nested structs it refuses at any version.
#[test]
fn random_messages_pass_through_another_implementation() {
    let mut passed = 0;
    let mut failures = Vec::new();
    macro_rules! exchange_all {
        ($($name:ident)*) => {$(passed += exchange_versions::<ours::$name, theirs::$name>(&mut failures);)*};
    }
    exchange_all! {
        ConsumerProtocolAssignment ConsumerProtocolSubscription DefaultPrincipalData EndTxnMarker
        KRaftVersionRecord RequestHeader ResponseHeader SnapshotFooterRecord
        SnapshotHeaderRecord ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest
        OffsetCommitRequest OffsetFetchRequest FindCoordinatorRequest JoinGroupRequest HeartbeatRequest
        LeaveGroupRequest SyncGroupRequest DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest
        ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest
        OffsetForLeaderEpochRequest AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest
        WriteTxnMarkersRequest TxnOffsetCommitRequest DescribeAclsRequest CreateAclsRequest DeleteAclsRequest
        DescribeConfigsRequest AlterConfigsRequest AlterReplicaLogDirsRequest DescribeLogDirsRequest
        SaslAuthenticateRequest CreatePartitionsRequest CreateDelegationTokenRequest RenewDelegationTokenRequest
        ExpireDelegationTokenRequest DescribeDelegationTokenRequest DeleteGroupsRequest ElectLeadersRequest
        IncrementalAlterConfigsRequest AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest
        OffsetDeleteRequest DescribeClientQuotasRequest AlterClientQuotasRequest
        DescribeUserScramCredentialsRequest AlterUserScramCredentialsRequest VoteRequest BeginQuorumEpochRequest
        EndQuorumEpochRequest DescribeQuorumRequest AlterPartitionRequest UpdateFeaturesRequest EnvelopeRequest
        FetchSnapshotRequest DescribeClusterRequest DescribeProducersRequest BrokerRegistrationRequest
        BrokerHeartbeatRequest UnregisterBrokerRequest DescribeTransactionsRequest ListTransactionsRequest
        AllocateProducerIdsRequest ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest
        ControllerRegistrationRequest GetTelemetrySubscriptionsRequest PushTelemetryRequest
        AssignReplicasToDirsRequest ListConfigResourcesRequest DescribeTopicPartitionsRequest
        ShareGroupHeartbeatRequest ShareGroupDescribeRequest ShareFetchRequest ShareAcknowledgeRequest
        AddRaftVoterRequest RemoveRaftVoterRequest UpdateRaftVoterRequest InitializeShareGroupStateRequest
        ReadShareGroupStateRequest WriteShareGroupStateRequest DeleteShareGroupStateRequest
        ReadShareGroupStateSummaryRequest DescribeShareGroupOffsetsRequest AlterShareGroupOffsetsRequest
        DeleteShareGroupOffsetsRequest ProduceResponse FetchResponse ListOffsetsResponse MetadataResponse
        OffsetCommitResponse OffsetFetchResponse FindCoordinatorResponse JoinGroupResponse HeartbeatResponse
        LeaveGroupResponse SyncGroupResponse DescribeGroupsResponse ListGroupsResponse SaslHandshakeResponse
        ApiVersionsResponse CreateTopicsResponse DeleteTopicsResponse DeleteRecordsResponse
        InitProducerIdResponse OffsetForLeaderEpochResponse AddPartitionsToTxnResponse AddOffsetsToTxnResponse
        EndTxnResponse WriteTxnMarkersResponse TxnOffsetCommitResponse DescribeAclsResponse CreateAclsResponse
        DeleteAclsResponse DescribeConfigsResponse AlterConfigsResponse AlterReplicaLogDirsResponse
        DescribeLogDirsResponse SaslAuthenticateResponse CreatePartitionsResponse CreateDelegationTokenResponse
        RenewDelegationTokenResponse ExpireDelegationTokenResponse DescribeDelegationTokenResponse
        DeleteGroupsResponse ElectLeadersResponse IncrementalAlterConfigsResponse
        AlterPartitionReassignmentsResponse ListPartitionReassignmentsResponse OffsetDeleteResponse
        DescribeClientQuotasResponse AlterClientQuotasResponse DescribeUserScramCredentialsResponse
        AlterUserScramCredentialsResponse VoteResponse BeginQuorumEpochResponse EndQuorumEpochResponse
        DescribeQuorumResponse AlterPartitionResponse UpdateFeaturesResponse EnvelopeResponse
        FetchSnapshotResponse DescribeClusterResponse DescribeProducersResponse BrokerRegistrationResponse
        BrokerHeartbeatResponse UnregisterBrokerResponse DescribeTransactionsResponse ListTransactionsResponse
        AllocateProducerIdsResponse ConsumerGroupHeartbeatResponse ConsumerGroupDescribeResponse
        ControllerRegistrationResponse GetTelemetrySubscriptionsResponse PushTelemetryResponse
        AssignReplicasToDirsResponse ListConfigResourcesResponse DescribeTopicPartitionsResponse
        ShareGroupHeartbeatResponse ShareGroupDescribeResponse ShareFetchResponse ShareAcknowledgeResponse
        AddRaftVoterResponse RemoveRaftVoterResponse UpdateRaftVoterResponse InitializeShareGroupStateResponse
        ReadShareGroupStateResponse WriteShareGroupStateResponse DeleteShareGroupStateResponse
        ReadShareGroupStateSummaryResponse DescribeShareGroupOffsetsResponse AlterShareGroupOffsetsResponse
        DeleteShareGroupOffsetsResponse
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(passed, 594, "pairs of a message and a version");
}

fn text() -> impl Strategy<Value = String> {
    "[a-z0-9._ż-]{0,40}"
}

/// Tags no schema has: skipped by us, kept by them.
fn tags() -> impl Strategy<Value = std::collections::BTreeMap<i32, Bytes>> {
    let payload = prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    prop::collection::btree_map(100..i32::MAX, payload, 0..3)
}

fn topic_name(name: String) -> theirs::TopicName {
    theirs::TopicName(StrBytes::from_string(name))
}

prop_compose! {
    fn their_produce()(
        transaction in prop::option::of(text()), acks in any::<i16>(), timeout in any::<i32>(),
        topics in prop::collection::vec(
            (text(), any::<u128>(), prop::collection::vec((any::<i32>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..3000)), tags()), 0..5)),
            0..5,
        ),
        more in tags(),
    ) -> theirs::ProduceRequest {
        use theirs::produce_request::{PartitionProduceData, TopicProduceData};
        let topics = topics.into_iter().map(|(name, id, partitions)| {
            let partitions = partitions.into_iter().map(|(index, records, tags)| {
                PartitionProduceData::default()
                    .with_index(index)
                    .with_records(records.map(Bytes::from))
                    .with_unknown_tagged_fields(tags)
            });
            TopicProduceData::default()
                .with_name(topic_name(name))
                .with_topic_id(Uuid::from_u128(id))
                .with_partition_data(partitions.collect())
        });
        theirs::ProduceRequest::default()
            .with_transactional_id(transaction.map(|id| theirs::TransactionalId(StrBytes::from_string(id))))
            .with_acks(acks)
            .with_timeout_ms(timeout)
            .with_topic_data(topics.collect())
            .with_unknown_tagged_fields(more)
    }
}

/// A version below the flexible ones carries no tags, one from 13 on no names, one below no ids.
fn fit_produce(mut request: theirs::ProduceRequest, version: i16) -> theirs::ProduceRequest {
    if version < 9 {
        request.unknown_tagged_fields.clear();
    }
    for topic in &mut request.topic_data {
        if version < 13 {
            topic.topic_id = Uuid::nil();
        } else {
            topic.name = theirs::TopicName::default();
        }
        for partition in topic.partition_data.iter_mut().filter(|_| version < 9) {
            partition.unknown_tagged_fields.clear();
        }
    }
    request
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(300) })]

    #[test]
    fn their_produce_requests_are_read_field_by_field(request in their_produce(), version in 3_i16..=13) {
        let request = fit_produce(request, version);
        let bytes = theirs_encoded(&request, version).unwrap();
        let read: ours::ProduceRequest = ours_decoded(bytes.clone(), version);
        prop_assert_eq!(read.transactional_id.as_deref(), request.transactional_id.as_ref().map(|id| id.0.as_str()));
        prop_assert_eq!((read.acks, read.timeout_ms), (request.acks, request.timeout_ms));
        prop_assert_eq!(read.topic_data.len(), request.topic_data.len());
        for (ours, theirs) in read.topic_data.iter().zip(&request.topic_data) {
            prop_assert_eq!(ours.name.as_str(), theirs.name.0.as_str());
            prop_assert_eq!(ours.topic_id, theirs.topic_id);
            prop_assert_eq!(ours.partition_data.len(), theirs.partition_data.len());
            for (ours, theirs) in ours.partition_data.iter().zip(&theirs.partition_data) {
                prop_assert_eq!(ours.index, theirs.index);
                prop_assert_eq!(&ours.records, &theirs.records);
                if let Some(records) = ours.records.as_ref().filter(|records| !records.is_empty()) {
                    prop_assert!(bytes.as_ptr_range().contains(&records.as_ptr()), "records are a slice of the frame");
                }
            }
        }
        let again = ours_encoded(&read, version);
        prop_assert_eq!(ours_decoded::<ours::ProduceRequest>(again, version), read);
    }
}

#[test]
fn header_versions_agree() {
    for key in crate::ApiKey::ALL {
        let Ok(their_key) = theirs::ApiKey::try_from(key.as_i16()) else {
            continue;
        };
        let VersionRange { min, max } = key.versions();
        let theirs = their_key.valid_versions();
        for version in min.max(theirs.min)..=max.min(theirs.max) {
            assert_eq!(
                key.request_header_version(version),
                their_key.request_header_version(version),
                "{key}"
            );
            assert_eq!(
                key.response_header_version(version),
                their_key.response_header_version(version),
                "{key}"
            );
        }
    }
}
