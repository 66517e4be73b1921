package compat;

import static compat.Checks.equal;
import static compat.Checks.expect;
import static compat.Checks.fails;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.record.TimestampType;

/** Kafka's producer: idempotence by default, codecs, splitting, errors of single records. */
final class ProducerChecks {
    private ProducerChecks() {}

    static void addTo(Checks checks, Server server) {
        checks.add("producer_defaults_are_idempotent_and_in_order", 60, () -> defaults(server));
        checks.add("producer_codecs", 60, () -> codecs(server));
        checks.add("producer_splits_batches_over_the_limit", 60, () -> splits(server));
        checks.add("producer_refusals", 60, () -> refusals(server));
        checks.add("producer_headers_and_nulls", 60, () -> headersAndNulls(server));
        checks.add("producer_log_append_time", 60, () -> logAppendTime(server));
        checks.add("producer_acks", 60, () -> acks(server));
        checks.add("producer_creates_topics_on_use", 60, () -> createsOnUse(server));
        checks.add("producer_outlives_a_recreated_topic", 90, () -> recreated(server));
        checks.add("producer_illegal_topic", 60, () -> illegalTopic(server));
    }

    private static List<ConsumerRecord<String, String>> read(Server server, String topic, int partitions, int count) {
        try (KafkaConsumer<String, String> consumer = server.consumer(null)) {
            var places = new ArrayList<TopicPartition>();
            for (int p = 0; p < partitions; p++) {
                places.add(new TopicPartition(topic, p));
            }
            consumer.assign(places);
            consumer.seekToBeginning(places);
            return Server.poll(consumer, count);
        }
    }

    private static void defaults(Server server) throws Exception {
        String topic = server.topic("defaults", 3);
        try (KafkaProducer<String, String> producer = server.producer("linger.ms", 0, "batch.size", 500)) {
            var sent = server.fill(producer, topic, 3000, 3);
            for (int i = 0; i < 3000; i++) {
                equal(sent.get(i).offset(), (long) (i / 3), "the offset of record " + i);
            }
        }
        var values = new ArrayList<List<Integer>>(List.of(new ArrayList<>(), new ArrayList<>(), new ArrayList<>()));
        for (var record : read(server, topic, 3, 3000)) {
            values.get(record.partition()).add(Integer.parseInt(record.value()));
        }
        for (int p = 0; p < 3; p++) {
            for (int i = 0; i < 1000; i++) {
                equal(values.get(p).get(i), i * 3 + p, "value " + i + " of partition " + p);
            }
        }
    }

    private static void codecs(Server server) throws Exception {
        String topic = server.topic("codecs", 1);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            server.fill(topic, 200, 1, "compression.type", codec, "linger.ms", 50);
        }
        var found = read(server, topic, 1, 1000);
        for (int i = 0; i < 1000; i++) {
            equal(found.get(i).value(), Integer.toString(i % 200), "value " + i);
        }
    }

    /** A batch that the client thinks small enough and the broker too large is split by the client. */
    private static void splits(Server server) throws Exception {
        String topic = server.topic("splits", 1, Map.of("max.message.bytes", "20000"));
        var random = new Random(5);
        try (KafkaProducer<String, String> producer = server.producer("batch.size", 200_000, "linger.ms", 200)) {
            var sent = new ArrayList<java.util.concurrent.Future<?>>();
            for (int i = 0; i < 100; i++) {
                var text = new StringBuilder();
                random.ints(1000, 'a', 'z').forEach(c -> text.append((char) c));
                sent.add(producer.send(new ProducerRecord<>(topic, 0, "k", text.toString())));
            }
            for (var one : sent) {
                one.get(30, TimeUnit.SECONDS);
            }
        }
        equal(read(server, topic, 1, 100).size(), 100, "records after splitting");
    }

    private static void refusals(Server server) throws Exception {
        String small = server.topic("small", 1, Map.of("max.message.bytes", "5000"));
        String compacted = server.topic("compacted", 1, Map.of("cleanup.policy", "compact"));
        String plain = server.topic("plain", 1);
        try (KafkaProducer<String, String> producer = server.producer()) {
            fails(RecordTooLargeException.class, "over max.message.bytes",
                () -> producer.send(new ProducerRecord<>(small, "k", "v".repeat(9000))).get(20, TimeUnit.SECONDS));
            var error = fails(InvalidRecordException.class, "no key on a compacted topic",
                () -> producer.send(new ProducerRecord<>(compacted, null, "v")).get(20, TimeUnit.SECONDS));
            expect(error.getMessage() != null && !error.getMessage().isEmpty(), "the error has no text");
            fails(InvalidTimestampException.class, "a timestamp far ahead",
                () -> producer.send(new ProducerRecord<>(plain, 0, System.currentTimeMillis() + 10_000_000_000L, "k", "v"))
                    .get(20, TimeUnit.SECONDS));
            // The producer goes on after all of these, with its sequences in order.
            for (String topic : List.of(small, compacted, plain)) {
                equal(producer.send(new ProducerRecord<>(topic, "k", "v")).get(20, TimeUnit.SECONDS).offset(), 0L,
                    "the first offset of " + topic);
            }
        }
    }

    private static void headersAndNulls(Server server) throws Exception {
        String topic = server.topic("headers", 1);
        try (KafkaProducer<String, String> producer = server.producer()) {
            var record = new ProducerRecord<String, String>(topic, 0, null, null);
            record.headers().add("a", "1".getBytes(StandardCharsets.UTF_8)).add("b", null).add("a", new byte[0]);
            producer.send(record).get(20, TimeUnit.SECONDS);
            producer.send(new ProducerRecord<>(topic, 0, "", "")).get(20, TimeUnit.SECONDS);
        }
        var found = read(server, topic, 1, 2);
        equal(found.get(0).key(), null, "the null key");
        equal(found.get(0).value(), null, "the null value");
        var names = new ArrayList<String>();
        found.get(0).headers().forEach(h -> names.add(h.key() + "=" + (h.value() == null ? "null" : new String(h.value()))));
        equal(names, List.of("a=1", "b=null", "a="), "headers");
        equal(found.get(1).key() + "|" + found.get(1).value(), "|", "the empty key and value");
    }

    private static void logAppendTime(Server server) throws Exception {
        String topic = server.topic("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis() - 1000;
        try (KafkaProducer<String, String> producer = server.producer("compression.type", "zstd")) {
            var sent = producer.send(new ProducerRecord<>(topic, 0, 1234L, "k", "v")).get(20, TimeUnit.SECONDS);
            expect(sent.timestamp() >= before, "the timestamp answered is " + sent.timestamp());
        }
        var found = read(server, topic, 1, 1).get(0);
        equal(found.timestampType(), TimestampType.LOG_APPEND_TIME, "the kind of timestamp");
        expect(found.timestamp() >= before, "the timestamp stored is " + found.timestamp());
    }

    private static void acks(Server server) throws Exception {
        String topic = server.topic("acks", 1);
        for (String acks : List.of("1", "all", "0")) {
            server.fill(topic, 10, 1, "acks", acks, "enable.idempotence", "all".equals(acks));
        }
        equal(read(server, topic, 1, 30).size(), 30, "records");
    }

    private static void createsOnUse(Server server) throws Exception {
        String produced = server.name("on-produce");
        String subscribed = server.name("on-subscribe");
        server.owns(produced);
        server.owns(subscribed);
        try (KafkaProducer<String, String> producer = server.producer()) {
            producer.send(new ProducerRecord<>(produced, "k", "v")).get(30, TimeUnit.SECONDS);
        }
        try (KafkaConsumer<String, String> consumer = server.consumer(server.name("group"))) {
            consumer.subscribe(List.of(subscribed));
            Checks.waitFor("the subscribed topic", 30, () -> {
                consumer.poll(java.time.Duration.ofMillis(200));
                return server.admin.listTopics().names().get(20, TimeUnit.SECONDS).contains(subscribed);
            });
        }
    }

    /** The topic is deleted and made again under a running producer: by its id the client notices, and goes on. */
    private static void recreated(Server server) throws Exception {
        String topic = server.topic("recreated", 1);
        try (KafkaProducer<String, String> producer = server.producer("metadata.max.age.ms", 1000)) {
            producer.send(new ProducerRecord<>(topic, "k", "old")).get(20, TimeUnit.SECONDS);
            server.admin.deleteTopics(List.of(topic)).all().get(20, TimeUnit.SECONDS);
            server.admin.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(topic, 1, (short) 1)))
                .all().get(20, TimeUnit.SECONDS);
            Checks.waitFor("a send to the new topic", 60, () -> {
                try {
                    producer.send(new ProducerRecord<>(topic, "k", "new")).get(20, TimeUnit.SECONDS);
                    return true;
                } catch (java.util.concurrent.ExecutionException again) {
                    return false;
                }
            });
        }
        equal(read(server, topic, 1, 1).get(0).value(), "new", "the first value of the new topic");
    }

    private static void illegalTopic(Server server) {
        try (KafkaProducer<String, String> producer = server.producer()) {
            fails(InvalidTopicException.class, "an illegal topic name",
                () -> producer.send(new ProducerRecord<>("a name", "k", "v")).get(20, TimeUnit.SECONDS));
        }
    }
}
