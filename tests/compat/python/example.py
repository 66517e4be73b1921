"""The user's own example, unchanged but for the bootstrap address (and fetch.wait.max.ms, whose other spelling
librdkafka refuses): creates a topic, produces keyed events with acks=all and idempotence, and consumes them in a
cooperative group with a synchronous commit per message.

  example.py [BOOTSTRAP] [TOPIC]
"""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
TOPIC = sys.argv[2] if len(sys.argv) > 2 else "user-events"
GROUP = f"{TOPIC}-processor"


def ensure_topic():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    if TOPIC in admin.list_topics(timeout=10).topics:
        print(f"topic {TOPIC} exists")
        return
    futures = admin.create_topics([NewTopic(TOPIC, num_partitions=3, replication_factor=1)])
    for topic, future in futures.items():
        try:
            future.result(timeout=10)
            print(f"created {topic}")
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def delivered(error, message):
    if error is not None:
        raise SystemExit(f"delivery failed: {error}")
    print(f"delivered {message.key().decode()} to {message.topic()}[{message.partition()}]@{message.offset()}")


def produce(events):
    producer = Producer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "acks": "all",
            "enable.idempotence": True,
            "retries": 5,
            "retry.backoff.ms": 500,
            "compression.type": "snappy",
            "linger.ms": 10,
            "batch.size": 65536,
        }
    )
    for event in events:
        producer.produce(
            TOPIC,
            key=event["user_id"].encode(),
            value=json.dumps(event).encode(),
            on_delivery=delivered,
        )
        producer.poll(0)
    left = producer.flush(30)
    if left:
        raise SystemExit(f"{left} messages were not delivered")


def consume(expected):
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "max.poll.interval.ms": 300000,
            "session.timeout.ms": 45000,
            "heartbeat.interval.ms": 15000,
            "partition.assignment.strategy": "cooperative-sticky",
            "fetch.min.bytes": 1,
            "fetch.wait.max.ms": 500,
        }
    )
    consumer.subscribe([TOPIC])
    seen = 0
    deadline = time.time() + 60
    try:
        while seen < expected and time.time() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(message.error())
            event = json.loads(message.value())
            print(f"{message.key().decode()}: {event['action']} (partition {message.partition()})")
            consumer.commit(message=message, asynchronous=False)
            seen += 1
    finally:
        consumer.close()
    if seen < expected:
        raise SystemExit(f"saw {seen} of {expected} events")


if __name__ == "__main__":
    ensure_topic()
    sample = [
        {"user_id": "u-001", "action": "login"},
        {"user_id": "u-002", "action": "login"},
        {"user_id": "u-001", "action": "add_to_cart"},
        {"user_id": "u-002", "action": "logout"},
        {"user_id": "u-001", "action": "checkout"},
    ]
    produce(sample)
    consume(len(sample))
    print("done")
