"""The server under test as a check sees it: topics of its own, clients with strict defaults, and their clean-up."""

import time
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from checks import expect, wait_for

REQUEST_SECONDS = 20


def settings_of(keywords):
    """compression_type=… as librdkafka names it; callbacks keep their underscore."""
    return {k if k.endswith("_cb") else k.replace("_", "."): v for k, v in keywords.items()}


class Target:
    def __init__(self, bootstrap, check_name):
        self.bootstrap = bootstrap
        self.prefix = f"{check_name.replace('_', '-')}-{uuid.uuid4().hex[:6]}"
        self.topics = []
        self.closers = []
        self._admin = None
        self._watcher = None

    @property
    def admin(self):
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap})
        return self._admin

    def name(self, suffix=""):
        return f"{self.prefix}-{suffix}" if suffix else self.prefix

    def topic(self, suffix="", partitions=1, config=None):
        """Creates a topic and returns its name once metadata shows all its partitions with leaders."""
        name = self.name(suffix)
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        self.admin.create_topics([new])[name].result(REQUEST_SECONDS)
        self.topics.append(name)

        def led():
            found = self.admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name]
            return found.error is None and len(found.partitions) == partitions and all(
                p.leader >= 0 for p in found.partitions.values()
            )

        wait_for(f"leaders of {name}", led)
        return name

    def producer(self, **settings):
        base = {"bootstrap.servers": self.bootstrap, "message.timeout.ms": 30000, "linger.ms": 5}
        return Producer(base | settings_of(settings))

    def consumer(self, group=None, **settings):
        base = {
            "bootstrap.servers": self.bootstrap,
            "group.id": group or self.name("readers"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "check.crcs": True,
            "topic.metadata.refresh.interval.ms": 2000,
        }
        consumer = Consumer(base | settings_of(settings))
        self.closers.append(consumer.close)
        return consumer

    def send(self, topic, records, producer=None, **settings):
        """Produces dicts of produce()'s arguments; returns [(error, message)] in the order of the reports."""
        reports = []
        producer = producer or self.producer(**settings)
        for record in records:
            arguments = record if isinstance(record, dict) else {"value": record}
            while True:
                try:
                    producer.produce(topic, on_delivery=lambda error, m: reports.append((error, m)), **arguments)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        left = producer.flush(60)
        expect(left == 0, f"{left} messages had no report after 60 s")
        return reports

    def send_ok(self, topic, records, producer=None, **settings):
        """As send, but every record must be acknowledged; returns the delivered messages."""
        reports = self.send(topic, records, producer, **settings)
        for error, message in reports:
            expect(error is None, f"delivery to {topic}[{message.partition()}] failed: {error}")
        return [message for _, message in reports]

    def read(self, topic, count, partitions=1, start=OFFSET_BEGINNING, seconds=30, **settings):
        """Reads count messages from a start offset of each partition, by assignment without a group."""
        consumer = self.consumer(**settings)
        consumer.assign([TopicPartition(topic, p, start) for p in range(partitions)])
        return poll_messages(consumer, count, seconds)

    def end_offset(self, topic, partition=0):
        if self._watcher is None:
            self._watcher = self.consumer()
        return self._watcher.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_SECONDS)[1]

    def close(self):
        for close in self.closers:
            try:
                close()
            except (KafkaException, RuntimeError):
                pass  # closed by the check itself
        if self.topics and self._admin:
            for future in self._admin.delete_topics(self.topics).values():
                try:
                    future.result(REQUEST_SECONDS)
                except KafkaException:
                    pass  # deleted by the check itself


def poll_messages(consumer, count, seconds=30):
    """Polls until count messages came; fails on an error or after the deadline."""
    found = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        expect(time.monotonic() < deadline, f"read {len(found)} of {count} messages in {seconds} s")
        message = consumer.poll(0.2)
        if message is None:
            continue
        expect(message.error() is None, f"the consumer reports {message.error()}")
        found.append(message)
    return found


def kafka_error(call):
    """Runs call() and returns the KafkaError it raises; fails if it raises none."""
    try:
        value = call()
    except KafkaException as error:
        return error.args[0]
    raise AssertionError(f"no error; the call returned {value!r}")
