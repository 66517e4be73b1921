package compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The server under test: clients with Kafka's own defaults, and topics of a check's own. */
final class Server implements AutoCloseable {
    final String bootstrap;
    final Admin admin;
    private final List<String> topics = new ArrayList<>();

    Server(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    String name(String what) {
        return "java-" + what + "-" + UUID.randomUUID().toString().substring(0, 6);
    }

    String topic(String what, int partitions) throws Exception {
        return topic(what, partitions, Map.of());
    }

    String topic(String what, int partitions, Map<String, String> configs) throws Exception {
        String name = name(what);
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all().get(20, TimeUnit.SECONDS);
        topics.add(name);
        awaitVisible(name);
        return name;
    }

    /** Kafka answers a creation before its brokers show the topic. */
    void awaitVisible(String topic) throws Exception {
        Checks.waitFor(topic + " to be shown", 20, () -> {
            try {
                return admin.describeTopics(List.of(topic)).allTopicNames().get(20, TimeUnit.SECONDS).containsKey(topic);
            } catch (java.util.concurrent.ExecutionException notYet) {
                return false;
            }
        });
    }

    void owns(String topic) {
        topics.add(topic);
    }

    KafkaProducer<String, String> producer(Object... settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        put(all, settings);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(String group, Object... settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest"));
        if (group != null) {
            all.put("group.id", group);
        }
        put(all, settings);
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    private static void put(Map<String, Object> all, Object... settings) {
        for (int i = 0; i < settings.length; i += 2) {
            all.put((String) settings[i], settings[i + 1]);
        }
    }

    /** Sends the values 0..count-1, round the partitions, and waits for all of them. */
    List<RecordMetadata> fill(String topic, int count, int partitions, Object... settings) throws Exception {
        try (KafkaProducer<String, String> producer = producer(settings)) {
            return fill(producer, topic, count, partitions);
        }
    }

    List<RecordMetadata> fill(KafkaProducer<String, String> producer, String topic, int count, int partitions)
            throws Exception {
        var sent = new ArrayList<java.util.concurrent.Future<RecordMetadata>>();
        for (int i = 0; i < count; i++) {
            sent.add(producer.send(new ProducerRecord<>(topic, i % partitions, "k" + i, Integer.toString(i))));
        }
        producer.flush();
        var done = new ArrayList<RecordMetadata>();
        for (var one : sent) {
            done.add(one.get(30, TimeUnit.SECONDS));
        }
        return done;
    }

    static List<ConsumerRecord<String, String>> poll(KafkaConsumer<String, String> consumer, int count) {
        var found = new ArrayList<ConsumerRecord<String, String>>();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (found.size() < count) {
            Checks.expect(System.nanoTime() < deadline, "read " + found.size() + " of " + count + " records in 30 s");
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        return found;
    }

    @Override
    public void close() {
        try {
            admin.deleteTopics(topics).all().get(20, TimeUnit.SECONDS);
        } catch (Exception ignored) {
            // some were deleted by their checks
        }
        admin.close(Duration.ofSeconds(5));
    }
}
