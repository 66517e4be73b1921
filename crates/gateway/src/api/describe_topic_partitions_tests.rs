//! Paging through topics and partitions.

use strom_kafka_codec::messages::describe_topic_partitions_request::TopicRequest;
use strom_metadata::v1::metadata_record::Record;
use strom_metadata::v1::{MetadataBatch, MetadataRecord, PartitionRecord, TopicRecord};
use strom_types::MetadataOffset;

use super::*;

/// Topics `a`, `b`, `c` of 3, 1 and 2 partitions.
fn image() -> Image {
    let mut records = Vec::new();
    for (id, name, partitions) in [(1, "a", 3), (2, "b", 1), (3, "c", 2)] {
        let topic_id = bytes::Bytes::from(vec![id; 16]);
        records.push(Record::Topic(TopicRecord {
            topic_id: topic_id.clone(),
            name: name.into(),
            internal: false,
        }));
        records.extend((0..partitions).map(|partition| {
            Record::Partition(PartitionRecord {
                topic_id: topic_id.clone(),
                partition,
                replicas: vec![1, 2],
                leader: 1,
                isr: vec![1],
                elr: vec![2],
                min_isr: 1,
                ..Default::default()
            })
        }));
    }
    let records = records
        .into_iter()
        .map(|record| MetadataRecord { record: Some(record) });
    let batch = MetadataBatch {
        records: records.collect(),
        timestamp_ms: 0,
    };
    let mut image = Image::empty();
    image.apply(MetadataOffset(1), &batch).unwrap();
    image
}

fn request(topics: &[&str], cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
    let name = |name: &str| ByteStr::from(name.to_owned());
    DescribeTopicPartitionsRequest {
        topics: topics
            .iter()
            .map(|topic| TopicRequest { name: name(topic) })
            .collect(),
        response_partition_limit: 2000,
        cursor: cursor.map(|(topic, partition_index)| Asked {
            topic_name: name(topic),
            partition_index,
        }),
    }
}

type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

fn page(topics: &[&str], cursor: Option<(&str, i32)>, size: usize) -> Page {
    let response = describe(&image(), request(topics, cursor), size);
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| p.partition_index).collect();
        (
            topic.name.clone().unwrap().to_string(),
            topic.error_code,
            partitions,
        )
    });
    let next = response.next_cursor.as_ref();
    (
        topics.collect(),
        next.map(|next| (next.topic_name.to_string(), next.partition_index)),
    )
}

fn ok(name: &str, partitions: &[i32]) -> (String, i16, Vec<i32>) {
    (name.to_owned(), 0, partitions.to_vec())
}

#[test]
fn following_the_cursor_tells_everything_once() {
    for topics in [&[][..], &["c", "a", "b", "a"]] {
        for size in 1..=7 {
            let mut told: Vec<(String, i32)> = Vec::new();
            let mut cursor: Option<(String, i32)> = None;
            for _ in 0..10 {
                let from = cursor
                    .as_ref()
                    .map(|(topic, partition)| (topic.as_str(), *partition));
                let (page, next) = page(topics, from, size);
                let lines = page.into_iter().flat_map(|(topic, _, partitions)| {
                    partitions.into_iter().map(move |p| (topic.clone(), p))
                });
                let before = told.len();
                told.extend(lines);
                assert!(told.len() - before <= size);
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            let all = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("c", 1)];
            let all: Vec<(String, i32)> = all.iter().map(|(topic, p)| ((*topic).to_owned(), *p)).collect();
            assert_eq!((told, cursor), (all, None), "pages of {size}");
        }
    }
}

#[test]
fn the_cursor_stands_where_the_page_ends() {
    assert_eq!(
        page(&[], None, 2),
        (vec![ok("a", &[0, 1])], Some(("a".to_owned(), 2)))
    );
    assert_eq!(
        page(&[], None, 3),
        (vec![ok("a", &[0, 1, 2])], Some(("b".to_owned(), 0))),
        "a full page ends before the next topic"
    );
    assert_eq!(page(&[], Some(("c", 1)), 9), (vec![ok("c", &[1])], None));
}

#[test]
fn unknown_topics_and_cursors() {
    let (topics, next) = page(&["b", "missing", "no/name"], None, 9);
    assert_eq!(
        topics,
        [
            ok("b", &[0]),
            ("missing".to_owned(), 3, vec![]),
            ("no/name".to_owned(), 17, vec![]),
        ]
    );
    assert_eq!(next, None);
    assert_eq!(
        page(&["a"], Some(("b", 0)), 9).0,
        [("a".to_owned(), 42, vec![])],
        "the cursor's topic must be among those asked for"
    );
    assert_eq!(page(&["a"], Some(("a", -1)), 9).0, [("a".to_owned(), 42, vec![])]);
    assert_eq!(page(&["a"], Some(("a", i32::MAX)), 9), (vec![ok("a", &[])], None));
}

#[test]
fn eligible_replicas_are_told() {
    let response = describe(&image(), request(&["b"], None), 9);
    let partition = &response.topics[0].partitions[0];
    assert_eq!(
        partition.eligible_leader_replicas.as_deref(),
        Some([2].as_slice())
    );
    assert_eq!(partition.last_known_elr.as_deref(), Some([].as_slice()));
    assert_eq!(
        partition.offline_replicas,
        [1, 2],
        "no such brokers are registered here"
    );
    assert_eq!(response.topics[0].topic_authorized_operations, TOPIC_OPERATIONS);
}
