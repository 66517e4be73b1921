package compat;

import java.util.Arrays;

/** Kafka's own Java client with its defaults: Main BOOTSTRAP [PREFIX-OF-A-CHECK...]. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        boolean good;
        try (Server server = new Server(arguments[0])) {
            Checks checks = new Checks();
            ProducerChecks.addTo(checks, server);
            ConsumerChecks.addTo(checks, server);
            GroupChecks.addTo(checks, server);
            AdminChecks.addTo(checks, server);
            good = checks.run(Arrays.asList(arguments).subList(1, arguments.length));
        }
        System.exit(good ? 0 : 1);
    }
}
