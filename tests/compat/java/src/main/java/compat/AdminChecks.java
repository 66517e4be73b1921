package compat;

import static compat.Checks.equal;
import static compat.Checks.expect;
import static compat.Checks.fails;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Kafka's Admin: by names and by ids, in pages, with every specification of offsets. */
final class AdminChecks {
    private AdminChecks() {}

    static void addTo(Checks checks, Server server) {
        checks.add("admin_cluster", 60, () -> cluster(server));
        checks.add("admin_topics_by_name_and_id", 60, () -> topicsByNameAndId(server));
        checks.add("admin_describes_topics_in_pages", 60, () -> pages(server));
        checks.add("admin_create_answers_with_configs", 60, () -> createAnswers(server));
        checks.add("admin_configs_with_sources_and_documentation", 60, () -> configs(server));
        checks.add("admin_alters_configs", 60, () -> alters(server));
        checks.add("admin_lists_config_resources_and_features", 60, () -> features(server));
        checks.add("admin_offset_specs", 60, () -> offsetSpecs(server));
        checks.add("admin_deletes_records", 60, () -> deletesRecords(server));
        checks.add("admin_groups", 90, () -> groups(server));
        checks.add("admin_log_dirs", 60, () -> logDirs(server));
        checks.add("admin_producers", 60, () -> producers(server));
        checks.add("admin_quorum", 60, () -> quorum(server));
    }

    private static <T> T get(org.apache.kafka.common.KafkaFuture<T> future) throws Exception {
        return future.get(20, TimeUnit.SECONDS);
    }

    private static void cluster(Server server) throws Exception {
        var found = server.admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
        Collection<org.apache.kafka.common.Node> nodes = get(found.nodes());
        expect(!get(found.clusterId()).isEmpty(), "no cluster id");
        int controller = get(found.controller()).id();
        expect(nodes.stream().anyMatch(n -> n.id() == controller), "the controller is no node");
        expect(!get(found.authorizedOperations()).isEmpty(), "no authorized operations");
    }

    private static void topicsByNameAndId(Server server) throws Exception {
        String topic = server.topic("by-id", 3);
        TopicDescription byName = get(server.admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        Uuid id = byName.topicId();
        expect(!id.equals(Uuid.ZERO_UUID), "a zero topic id");
        var byId = get(server.admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds()).get(id);
        equal(byId.name(), topic, "the name by id");
        equal(byId.partitions().size(), 3, "partitions by id");
        var listing = get(server.admin.listTopics().listings()).stream().filter(t -> t.name().equals(topic)).findFirst();
        equal(listing.orElseThrow().topicId(), id, "the id listed");
        fails(TopicExistsException.class, "made twice",
            () -> get(server.admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all()));
        get(server.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
        fails(UnknownTopicOrPartitionException.class, "described after its deletion",
            () -> get(server.admin.describeTopics(List.of(topic)).allTopicNames()));
        fails(UnknownTopicIdException.class, "deleted again by id",
            () -> get(server.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all()));
        get(server.admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
        server.awaitVisible(topic);
        var again = get(server.admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        expect(!again.topicId().equals(id), "the same id for another topic");
    }

    /** DescribeTopicPartitions answers in pages of at most so many partitions, with a cursor. */
    private static void pages(Server server) throws Exception {
        String large = server.topic("pages-a", 25);
        String small = server.topic("pages-b", 3);
        var options = new DescribeTopicsOptions().partitionSizeLimitPerResponse(4).includeAuthorizedOperations(true);
        var found = get(server.admin.describeTopics(List.of(large, small), options).allTopicNames());
        equal(found.get(large).partitions().size(), 25, "partitions of the large topic");
        equal(found.get(small).partitions().size(), 3, "partitions of the small topic");
        for (int p = 0; p < 25; p++) {
            var partition = found.get(large).partitions().get(p);
            equal(partition.partition(), p, "the order of partitions");
            expect(partition.leader() != null && !partition.isr().isEmpty(), "partition " + p + " has no leader or ISR");
        }
    }

    private static void createAnswers(Server server) throws Exception {
        String topic = server.name("created");
        var wanted = new NewTopic(topic, Optional.of(2), Optional.empty()).configs(Map.of("retention.ms", "1234567"));
        var tried = server.admin.createTopics(List.of(wanted), new CreateTopicsOptions().validateOnly(true));
        equal(get(tried.numPartitions(topic)), 2, "partitions answered by validation");
        expect(!get(server.admin.listTopics().names()).contains(topic), "validation made it");
        server.owns(topic);
        var made = server.admin.createTopics(List.of(wanted));
        equal(get(made.numPartitions(topic)), 2, "partitions answered");
        equal(get(made.replicationFactor(topic)), 1, "replication answered");
        equal(get(made.config(topic)).get("retention.ms").value(), "1234567", "retention.ms answered");
        server.awaitVisible(topic);
        equal(get(made.topicId(topic)), get(server.admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).topicId(),
            "the id answered");
        fails(InvalidReplicationFactorException.class, "too many replicas",
            () -> get(server.admin.createTopics(List.of(new NewTopic(server.name("x"), 1, (short) 50))).all()));
        get(server.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
        fails(InvalidPartitionsException.class, "fewer partitions",
            () -> get(server.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all()));
    }

    private static Config describe(Server server, ConfigResource resource) throws Exception {
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return get(server.admin.describeConfigs(List.of(resource), options).all()).get(resource);
    }

    private static void configs(Server server) throws Exception {
        String topic = server.topic("configs", 1, Map.of("max.message.bytes", "99999"));
        Config found = describe(server, new ConfigResource(Type.TOPIC, topic));
        ConfigEntry set = found.get("max.message.bytes");
        equal(set.source(), ConfigSource.DYNAMIC_TOPIC_CONFIG, "the source of a set value");
        equal(set.type(), ConfigEntry.ConfigType.INT, "its type");
        equal(set.synonyms().size(), 2, "its synonyms");
        expect(set.documentation() != null && set.documentation().length() > 20, "no documentation");
        equal(found.get("cleanup.policy").type(), ConfigEntry.ConfigType.LIST, "the type of cleanup.policy");
        equal(found.get("preallocate").type(), ConfigEntry.ConfigType.BOOLEAN, "the type of preallocate");
        equal(found.get("retention.ms").type(), ConfigEntry.ConfigType.LONG, "the type of retention.ms");
        String broker = get(server.admin.describeCluster().nodes()).iterator().next().idString();
        Config node = describe(server, new ConfigResource(Type.BROKER, broker));
        expect(node.entries().size() > 200, "a broker shows " + node.entries().size() + " configs");
        expect(node.get("log.dirs").isReadOnly(), "log.dirs is shown as changeable");
        expect(node.get("ssl.keystore.password").isSensitive(), "a password is not shown as sensitive");
        equal(node.get("ssl.keystore.password").value(), null, "a password's value");
    }

    private static void alters(Server server) throws Exception {
        String topic = server.topic("alters", 1);
        var resource = new ConfigResource(Type.TOPIC, topic);
        get(server.admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "5555"), OpType.SET),
            new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), OpType.APPEND)))).all());
        Config found = describe(server, resource);
        equal(found.get("retention.ms").value(), "5555", "after setting");
        equal(Set.of(found.get("cleanup.policy").value().split(",")), Set.of("compact", "delete"), "after appending");
        fails(InvalidConfigurationException.class, "an unknown key", () -> get(server.admin.incrementalAlterConfigs(
            Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry("no.such", "1"), OpType.SET)))).all()));
        var cluster = new ConfigResource(Type.BROKER, "");
        get(server.admin.incrementalAlterConfigs(Map.of(cluster,
            List.of(new AlterConfigOp(new ConfigEntry("log.cleaner.min.compaction.lag.ms", "77"), OpType.SET)))).all());
        try {
            Checks.waitFor("the topic to show the cluster's default", 20, () -> {
                var entry = describe(server, resource).get("min.compaction.lag.ms");
                return entry.value().equals("77") && entry.source() == ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG;
            });
            equal(describe(server, cluster).get("log.cleaner.min.compaction.lag.ms").value(), "77", "the cluster's config");
        } finally {
            get(server.admin.incrementalAlterConfigs(Map.of(cluster, List.of(new AlterConfigOp(
                new ConfigEntry("log.cleaner.min.compaction.lag.ms", null), OpType.DELETE)))).all());
        }
    }

    private static void features(Server server) throws Exception {
        // Only that the call ends well: which features there are is the server's affair.
        get(server.admin.describeFeatures().featureMetadata());
    }

    private static long offset(Server server, TopicPartition place, OffsetSpec spec) throws Exception {
        return get(server.admin.listOffsets(Map.of(place, spec)).partitionResult(place)).offset();
    }

    private static void offsetSpecs(Server server) throws Exception {
        String topic = server.topic("specs", 1);
        var place = new TopicPartition(topic, 0);
        server.fill(topic, 10, 1);
        equal(offset(server, place, OffsetSpec.earliest()), 0L, "earliest");
        equal(offset(server, place, OffsetSpec.latest()), 10L, "latest");
        equal(offset(server, place, OffsetSpec.earliestLocal()), 0L, "earliest local");
        equal(offset(server, place, OffsetSpec.latestTiered()), -1L, "latest tiered");
        equal(offset(server, place, OffsetSpec.earliestPendingUpload()), -1L, "earliest pending upload");
        equal(offset(server, place, OffsetSpec.forTimestamp(0)), 0L, "since the beginning of time");
        equal(offset(server, place, OffsetSpec.forTimestamp(System.currentTimeMillis() + 60_000)), -1L, "of the future");
        long newest = offset(server, place, OffsetSpec.maxTimestamp());
        expect(newest >= 0 && newest < 10, "the newest is " + newest);
        var several = new HashMap<TopicPartition, OffsetSpec>();
        String many = server.topic("specs-many", 30);
        for (int p = 0; p < 30; p++) {
            several.put(new TopicPartition(many, p), p % 2 == 0 ? OffsetSpec.latest() : OffsetSpec.earliest());
        }
        equal(get(server.admin.listOffsets(several).all()).size(), 30, "partitions answered");
    }

    private static void deletesRecords(Server server) throws Exception {
        String topic = server.topic("delete-records", 1);
        var place = new TopicPartition(topic, 0);
        server.fill(topic, 10, 1);
        var done = server.admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(6)));
        equal(get(done.lowWatermarks().get(place)).lowWatermark(), 6L, "the low watermark");
        equal(offset(server, place, OffsetSpec.earliest()), 6L, "earliest");
        fails(OffsetOutOfRangeException.class, "beyond the end",
            () -> get(server.admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(99))).all()));
    }

    private static void groups(Server server) throws Exception {
        String topic = server.topic("groups", 2);
        String group = server.name("group");
        var first = new TopicPartition(topic, 0);
        var second = new TopicPartition(topic, 1);
        get(server.admin.alterConsumerGroupOffsets(group,
            Map.of(first, new OffsetAndMetadata(3, "note"), second, new OffsetAndMetadata(4))).all());
        var offsets = get(server.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        equal(offsets.get(first), new OffsetAndMetadata(3, offsets.get(first).leaderEpoch(), "note"), "the first's offset");
        equal(offsets.get(second).offset(), 4L, "the second's offset");
        var listed = get(server.admin.listGroups().all()).stream().filter(g -> g.groupId().equals(group)).findFirst();
        equal(listed.orElseThrow().groupState().orElseThrow(), GroupState.EMPTY, "the state listed");
        get(server.admin.deleteConsumerGroupOffsets(group, Set.of(first)).all());
        equal(get(server.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet(), Set.of(second),
            "partitions with offsets after a deletion");
        try (var consumer = server.consumer(group)) {
            consumer.subscribe(List.of(topic));
            Checks.waitFor("the assignment", 30, () -> {
                consumer.poll(java.time.Duration.ofMillis(100));
                return consumer.assignment().size() == 2;
            });
            fails(GroupNotEmptyException.class, "deleting a living group",
                () -> get(server.admin.deleteConsumerGroups(List.of(group)).all()));
            fails(org.apache.kafka.common.errors.GroupSubscribedToTopicException.class, "deleting a subscribed offset",
                () -> get(server.admin.deleteConsumerGroupOffsets(group, Set.of(second)).all()));
        }
        get(server.admin.deleteConsumerGroups(List.of(group)).all());
        fails(GroupIdNotFoundException.class, "describing a deleted group",
            () -> get(server.admin.describeConsumerGroups(List.of(group)).all()));
        fails(GroupIdNotFoundException.class, "deleting it again",
            () -> get(server.admin.deleteConsumerGroups(List.of(group)).all()));
    }

    private static void logDirs(Server server) throws Exception {
        String topic = server.topic("log-dirs", 2);
        server.fill(topic, 1000, 2);
        int broker = get(server.admin.describeCluster().nodes()).iterator().next().id();
        var dirs = get(server.admin.describeLogDirs(List.of(broker)).allDescriptions()).get(broker);
        expect(!dirs.isEmpty(), "no log dirs");
        long size = 0;
        for (var dir : dirs.values()) {
            equal(dir.error(), null, "the error of a log dir");
            for (var replica : dir.replicaInfos().entrySet()) {
                size += replica.getKey().topic().equals(topic) ? replica.getValue().size() : 0;
            }
            expect(dir.totalBytes().orElse(0) > 0, "a log dir without a size");
        }
        expect(size > 1000, "the topic's size is " + size);
    }

    private static void producers(Server server) throws Exception {
        String topic = server.topic("producers", 1);
        var place = new TopicPartition(topic, 0);
        try (var producer = server.producer()) {
            server.fill(producer, topic, 5, 1);
            var states = get(server.admin.describeProducers(List.of(place)).partitionResult(place)).activeProducers();
            equal(states.size(), 1, "active producers");
            equal(states.get(0).lastSequence(), 4, "the last sequence");
        }
    }

    private static void quorum(Server server) throws Exception {
        var found = get(server.admin.describeMetadataQuorum().quorumInfo());
        expect(found.voters().size() >= 1, "no voters");
        expect(found.voters().stream().anyMatch(v -> v.replicaId() == found.leaderId()), "the leader is no voter");
        expect(found.highWatermark() > 0, "the high watermark is " + found.highWatermark());
    }
}
