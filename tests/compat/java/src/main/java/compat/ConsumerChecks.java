package compat;

import static compat.Checks.equal;
import static compat.Checks.expect;
import static compat.Checks.fails;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Kafka's consumer without a group's help: positions, times, sessions of fetches, limits. */
final class ConsumerChecks {
    private ConsumerChecks() {}

    static void addTo(Checks checks, Server server) {
        checks.add("consumer_positions", 60, () -> positions(server));
        checks.add("consumer_offsets_for_times", 60, () -> times(server));
        checks.add("consumer_commits_and_metadata", 60, () -> commits(server));
        checks.add("consumer_incremental_fetch_sessions", 60, () -> sessions(server));
        checks.add("consumer_small_limits", 60, () -> smallLimits(server));
        checks.add("consumer_resets", 60, () -> resets(server));
        checks.add("consumer_describes_topics", 60, () -> describes(server));
        checks.add("consumer_read_committed", 60, () -> readCommitted(server));
        checks.add("consumer_lag", 60, () -> lag(server));
    }

    private static void positions(Server server) throws Exception {
        String topic = server.topic("positions", 2);
        server.fill(topic, 200, 2, "batch.size", 300);
        var first = new TopicPartition(topic, 0);
        var second = new TopicPartition(topic, 1);
        try (KafkaConsumer<String, String> consumer = server.consumer(null, "max.poll.records", 10)) {
            consumer.assign(List.of(first, second));
            equal(consumer.beginningOffsets(List.of(first, second)), Map.of(first, 0L, second, 0L), "beginning");
            equal(consumer.endOffsets(List.of(first, second)), Map.of(first, 100L, second, 100L), "end");
            equal(consumer.position(first), 0L, "the position before reading");
            consumer.pause(List.of(second));
            for (long place : new long[] {50, 3, 99, 0}) {
                consumer.seek(first, place);
                equal(Server.poll(consumer, 1).get(0).offset(), place, "the offset after seeking");
            }
            consumer.seekToEnd(List.of(first));
            equal(consumer.position(first), 100L, "the position at the end");
            expect(consumer.poll(Duration.ofMillis(500)).isEmpty(), "records past the end, or of a paused partition");
            consumer.resume(List.of(second));
            equal(Server.poll(consumer, 100).get(99).offset(), 99L, "the last offset of the resumed partition");
        }
    }

    private static void times(Server server) throws Exception {
        String topic = server.topic("times", 1);
        long base = System.currentTimeMillis() - 500_000;
        try (KafkaProducer<String, String> producer = server.producer("linger.ms", 50)) {
            for (int i = 0; i < 100; i++) {
                producer.send(new ProducerRecord<>(topic, 0, base + i * 100L, "k", "v"));
            }
            producer.flush();
        }
        var place = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = server.consumer(null)) {
            for (long[] asked : new long[][] {{0, 0}, {1, 1}, {100, 1}, {4950, 50}, {9900, 99}}) {
                var found = consumer.offsetsForTimes(Map.of(place, base + asked[0])).get(place);
                equal(found.offset(), asked[1], "the offset at " + asked[0]);
                equal(found.timestamp(), base + asked[1] * 100, "its timestamp");
            }
            equal(consumer.offsetsForTimes(Map.of(place, base + 9901)).get(place), null, "after the last");
        }
    }

    private static void commits(Server server) throws Exception {
        String topic = server.topic("commits", 1);
        server.fill(topic, 10, 1);
        var place = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = server.consumer(server.name("group"), "enable.auto.commit", false)) {
            consumer.assign(List.of(place));
            equal(consumer.committed(Set.of(place)).get(place), null, "before a commit");
            consumer.commitSync(Map.of(place, new OffsetAndMetadata(7, "a note")));
            var found = consumer.committed(Set.of(place)).get(place);
            equal(found.offset() + " " + found.metadata(), "7 a note", "after a commit");
            Server.poll(consumer, 3);
            consumer.commitSync();
            equal(consumer.committed(Set.of(place)).get(place).offset(), 10L, "after reading from there");
            var done = new java.util.concurrent.CompletableFuture<Exception>();
            consumer.commitAsync(Map.of(place, new OffsetAndMetadata(2)), (offsets, error) -> {
                if (error == null) {
                    done.complete(null);
                } else {
                    done.completeExceptionally(error);
                }
            });
            Checks.waitFor("the asynchronous commit", 20, () -> {
                consumer.poll(Duration.ofMillis(50));
                return done.isDone();
            });
            done.get();
            equal(consumer.committed(Set.of(place)).get(place).offset(), 2L, "after an asynchronous commit");
        }
    }

    /** Many partitions, most without news: what the session leaves out must not be missed, by the client's own metrics. */
    private static void sessions(Server server) throws Exception {
        int partitions = 40;
        String topic = server.topic("sessions", partitions);
        try (KafkaConsumer<String, String> consumer = server.consumer(null, "fetch.max.wait.ms", 200);
            KafkaProducer<String, String> producer = server.producer("linger.ms", 0)) {
            var places = new java.util.ArrayList<TopicPartition>();
            for (int p = 0; p < partitions; p++) {
                places.add(new TopicPartition(topic, p));
            }
            consumer.assign(places);
            for (int round = 0; round < 60; round++) {
                int partition = round * 7 % partitions;
                producer.send(new ProducerRecord<>(topic, partition, "k", Integer.toString(round))).get(20, TimeUnit.SECONDS);
                var found = Server.poll(consumer, 1);
                equal(found.size() + " " + found.get(0).partition() + " " + found.get(0).value(), "1 " + partition + " " + round,
                    "what came in round " + round);
                if (round == 30) {
                    // Leaving the session's partitions and coming back to them.
                    consumer.assign(places.subList(0, 3));
                    consumer.poll(Duration.ofMillis(300));
                    consumer.assign(places);
                    consumer.seekToEnd(places);
                    places.forEach(consumer::position);
                }
            }
        }
    }

    private static void smallLimits(Server server) throws Exception {
        String topic = server.topic("limits", 4);
        try (KafkaProducer<String, String> producer = server.producer()) {
            for (int i = 0; i < 40; i++) {
                producer.send(new ProducerRecord<>(topic, i % 4, "k", "v".repeat(50_000))).get(20, TimeUnit.SECONDS);
            }
        }
        try (KafkaConsumer<String, String> consumer =
            server.consumer(null, "fetch.max.bytes", 1000, "max.partition.fetch.bytes", 1000)) {
            consumer.assign(List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1),
                new TopicPartition(topic, 2), new TopicPartition(topic, 3)));
            equal(Server.poll(consumer, 40).size(), 40, "records larger than the limits");
        }
    }

    private static void resets(Server server) throws Exception {
        String topic = server.topic("resets", 1);
        server.fill(topic, 10, 1);
        var place = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = server.consumer(server.name("group"), "auto.offset.reset", "none")) {
            consumer.assign(List.of(place));
            fails(NoOffsetForPartitionException.class, "no offset", () -> consumer.poll(Duration.ofSeconds(10)));
            consumer.seek(place, 500);
            fails(OffsetOutOfRangeException.class, "out of range", () -> Server.poll(consumer, 1));
        }
        try (KafkaConsumer<String, String> consumer = server.consumer(null, "auto.offset.reset", "latest")) {
            consumer.assign(List.of(place));
            equal(consumer.position(place), 10L, "the latest");
        }
        try (KafkaConsumer<String, String> consumer = server.consumer(null, "auto.offset.reset", "by_duration:PT1H")) {
            consumer.assign(List.of(place));
            equal(consumer.position(place), 0L, "an hour ago");
        }
    }

    private static void describes(Server server) throws Exception {
        String topic = server.topic("listed", 3);
        try (KafkaConsumer<String, String> consumer = server.consumer(null)) {
            equal(consumer.partitionsFor(topic).size(), 3, "partitions");
            expect(consumer.listTopics().containsKey(topic), "not among all topics");
        }
    }

    private static void readCommitted(Server server) throws Exception {
        String topic = server.topic("committed", 1);
        server.fill(topic, 50, 1);
        try (KafkaConsumer<String, String> consumer = server.consumer(null, "isolation.level", "read_committed")) {
            var place = new TopicPartition(topic, 0);
            consumer.assign(List.of(place));
            equal(Server.poll(consumer, 50).size(), 50, "records");
            equal(consumer.endOffsets(List.of(place)).get(place), 50L, "the last stable offset");
        }
    }

    private static void lag(Server server) throws Exception {
        String topic = server.topic("lag", 1);
        server.fill(topic, 20, 1);
        var place = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = server.consumer(null, "max.poll.records", 5)) {
            consumer.assign(List.of(place));
            Server.poll(consumer, 5);
            equal(consumer.currentLag(place).orElse(-1), 15L, "the lag");
        }
    }
}
