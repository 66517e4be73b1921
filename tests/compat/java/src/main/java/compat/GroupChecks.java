package compat;

import static compat.Checks.equal;
import static compat.Checks.expect;
import static compat.Checks.waitFor;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;

/** Kafka's consumer in groups of the classic protocol: its default assignors, the sticky ones, static members. */
final class GroupChecks {
    private GroupChecks() {}

    /** A polling member; owned, taken and read may be looked at from outside. */
    private static final class Member extends Thread implements ConsumerRebalanceListener {
        final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
        final Set<TopicPartition> taken = ConcurrentHashMap.newKeySet();
        final Set<String> read = ConcurrentHashMap.newKeySet();
        final AtomicInteger events = new AtomicInteger();
        volatile Exception failure;
        private volatile boolean ending;
        private final KafkaConsumer<String, String> consumer;

        Member(Server server, String group, String topic, Object... settings) {
            consumer = server.consumer(group, settings);
            consumer.subscribe(List.of(topic), this);
            setDaemon(true);
            start();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            owned.addAll(partitions);
            events.incrementAndGet();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            owned.removeAll(partitions);
            taken.addAll(partitions);
            events.incrementAndGet();
        }

        @Override
        public void run() {
            try {
                while (!ending) {
                    consumer.poll(Duration.ofMillis(100)).forEach(r -> read.add(r.partition() + ":" + r.offset()));
                }
            } catch (Exception error) {
                failure = error;
            } finally {
                consumer.close();
            }
        }

        void leave() throws InterruptedException {
            ending = true;
            join(20_000);
            expect(!isAlive(), "a member did not close within 20 s");
            if (failure != null) {
                throw new AssertionError("a member failed: " + failure);
            }
        }
    }

    static void addTo(Checks checks, Server server) {
        checks.add("group_default_assignors", 90, () -> rebalance(server, null, true));
        checks.add("group_range", 90, () -> rebalance(server, RangeAssignor.class.getName(), true));
        checks.add("group_round_robin", 90, () -> rebalance(server, RoundRobinAssignor.class.getName(), true));
        checks.add("group_sticky", 90, () -> rebalance(server, StickyAssignor.class.getName(), true));
        checks.add("group_cooperative", 90, () -> rebalance(server, CooperativeStickyAssignor.class.getName(), false));
        checks.add("group_static_member", 90, () -> staticMember(server));
        checks.add("group_is_left_by_an_administrator", 90, () -> removeMembers(server));
        checks.add("group_move_to_the_cooperative_protocol", 120, () -> moveToCooperative(server));
    }

    private static void balanced(List<Member> members, int partitions) throws Exception {
        waitFor(members.size() + " members to share " + partitions + " partitions", 40, () -> {
            var all = new HashSet<TopicPartition>();
            int sum = 0;
            for (Member member : members) {
                int size = member.owned.size();
                if (size < partitions / members.size()) {
                    return false;
                }
                sum += size;
                all.addAll(member.owned);
            }
            return sum == partitions && all.size() == partitions;
        });
    }

    /** Two members, then a third comes and goes; eager assignors take all away, the cooperative one what moves. */
    private static void rebalance(Server server, String assignor, boolean eager) throws Exception {
        String topic = server.topic("rebalance", 6);
        String group = server.name("group");
        Object[] settings =
            assignor == null ? new Object[0] : new Object[] {"partition.assignment.strategy", assignor};
        var first = new Member(server, group, topic, settings);
        var second = new Member(server, group, topic, settings);
        balanced(List.of(first, second), 6);
        var before = Map.of(first, Set.copyOf(first.owned), second, Set.copyOf(second.owned));
        first.taken.clear();
        second.taken.clear();
        var third = new Member(server, group, topic, settings);
        balanced(List.of(first, second, third), 6);
        for (Member member : List.of(first, second)) {
            equal(member.taken.size(), eager ? 3 : 1, "partitions taken from a member of two");
            if (!eager || assignor != null && assignor.endsWith(".StickyAssignor")) {
                expect(before.get(member).containsAll(member.owned), "the sticky assignor moved more than it must");
            }
        }
        server.fill(topic, 60, 6);
        waitFor("60 records", 20, () -> first.read.size() + second.read.size() + third.read.size() == 60);
        first.taken.clear();
        second.taken.clear();
        third.leave();
        balanced(List.of(first, second), 6);
        if (!eager) {
            equal(first.taken.size() + second.taken.size(), 0, "partitions taken when the third left");
        }
        var described = server.admin.describeConsumerGroups(List.of(group)).all().get(20, TimeUnit.SECONDS).get(group);
        equal(described.groupState(), GroupState.STABLE, "the group's state");
        equal(described.members().size(), 2, "its members");
        first.leave();
        second.leave();
    }

    private static void staticMember(Server server) throws Exception {
        String topic = server.topic("static", 4);
        String group = server.name("group");
        var first = new Member(server, group, topic, "group.instance.id", "one");
        var second = new Member(server, group, topic, "group.instance.id", "two");
        balanced(List.of(first, second), 4);
        var owned = Set.copyOf(first.owned);
        int events = second.events.get();
        first.leave();
        var again = new Member(server, group, topic, "group.instance.id", "one");
        waitFor("the returned member's partitions", 30, () -> again.owned.size() == 2);
        equal(Set.copyOf(again.owned), owned, "the partitions after the restart");
        server.fill(topic, 40, 4);
        waitFor("40 records", 20, () -> again.read.size() + second.read.size() == 40);
        equal(second.events.get(), events, "rebalances at the other member");
        again.leave();
        second.leave();
        removeAll(server, group);
    }

    private static void removeAll(Server server, String group) throws Exception {
        server.admin.removeMembersFromConsumerGroup(group,
            new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions()).all().get(20, TimeUnit.SECONDS);
        waitFor("the group to be empty", 20, () -> server.admin.describeConsumerGroups(List.of(group)).all()
            .get(20, TimeUnit.SECONDS).get(group).groupState() == GroupState.EMPTY);
    }

    /** Static members, closed but still in the group, are removed by the administrator: by name, then all. */
    private static void removeMembers(Server server) throws Exception {
        String topic = server.topic("removed", 3);
        String group = server.name("group");
        var members = new ArrayList<Member>();
        for (String id : List.of("a", "b", "c")) {
            members.add(new Member(server, group, topic, "group.instance.id", id));
        }
        balanced(members, 3);
        for (Member member : members) {
            member.leave();
        }
        var gone = new org.apache.kafka.clients.admin.MemberToRemove("a");
        server.admin.removeMembersFromConsumerGroup(group,
            new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions(Set.of(gone)))
            .all().get(20, TimeUnit.SECONDS);
        var left = server.admin.describeConsumerGroups(List.of(group)).all().get(20, TimeUnit.SECONDS).get(group);
        var names = new HashSet<String>();
        left.members().forEach(m -> names.add(m.groupInstanceId().orElse("")));
        equal(names, Set.of("b", "c"), "members after the first removal");
        removeAll(server, group);
    }

    /** The documented way from eager to cooperative: each member restarts with both assignors, then with one. */
    private static void moveToCooperative(Server server) throws Exception {
        String topic = server.topic("move", 4);
        String group = server.name("group");
        String range = RangeAssignor.class.getName();
        String cooperative = CooperativeStickyAssignor.class.getName();
        var strategies = List.of(range, cooperative + "," + range, cooperative);
        var members = new ArrayList<Member>();
        for (int i = 0; i < 2; i++) {
            members.add(new Member(server, group, topic, "partition.assignment.strategy", range));
        }
        balanced(members, 4);
        for (String strategy : strategies.subList(1, 3)) {
            for (int i = 0; i < 2; i++) {
                members.get(i).leave();
                members.set(i, new Member(server, group, topic, "partition.assignment.strategy", strategy));
                balanced(members, 4);
            }
        }
        var described = server.admin.describeConsumerGroups(List.of(group)).all().get(20, TimeUnit.SECONDS).get(group);
        equal(described.partitionAssignor(), "cooperative-sticky", "the assignor at the end");
        for (Member member : members) {
            member.leave();
        }
    }
}
