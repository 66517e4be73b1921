import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own idempotent producer at a steady rate until its standard input ends, one line per invocation ("invoke"
 * partition value) and completion ("ok" partition value offset, "info" partition value error).
 *
 * <p>Arguments: bootstrap servers, topic, partitions, records a second, the values' prefix.
 */
public final class IdempotentLoad {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        int partitions = Integer.parseInt(arguments[2]);
        long pauseNanos = 1_000_000_000L / Long.parseLong(arguments[3]);
        AtomicInteger underWay = new AtomicInteger();
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", arguments[0]);
        config.put("enable.idempotence", true);
        config.put("acks", "all");
        config.put("linger.ms", 5);
        config.put("reconnect.backoff.max.ms", 500);
        try (var producer = new KafkaProducer<String, String>(config, new StringSerializer(), new StringSerializer())) {
            long start = System.nanoTime();
            for (int number = 0; System.in.available() == 0; number++) {
                int partition = number * 7 % partitions;
                String value = arguments[4] + ":" + number;
                say("invoke " + partition + " " + value);
                underWay.incrementAndGet();
                producer.send(new ProducerRecord<>(topic, partition, null, value + ":."), (metadata, error) -> {
                    underWay.decrementAndGet();
                    say(error == null
                        ? "ok " + partition + " " + value + " " + metadata.offset()
                        : "info " + partition + " " + value + " " + error.getClass().getSimpleName());
                });
                long ahead = start + (number + 1) * pauseNanos - System.nanoTime();
                if (ahead > 0) {
                    Thread.sleep(ahead / 1_000_000, (int) (ahead % 1_000_000));
                }
            }
            producer.flush();
        }
        say("end " + underWay.get());
    }

    private static synchronized void say(String line) {
        System.out.println(line);
    }
}
