//! AlterPartition: the leader proposes an ISR, the controller decides (KIP-497, KIP-841, KIP-903).

use strom_proto::convert::topic_id_partition;
use strom_proto::v1;
use strom_types::{BrokerEpoch, BrokerId, ErrorCode, TopicIdPartition};

use super::{Refused, Reply, check_broker_epoch};
use crate::draft::{Draft, replica_is_online};
use crate::image::{Image, PartitionState};
use crate::partition_change::PartitionChange;

pub(super) fn alter_partition(
    draft: &mut Draft,
    request: &v1::AlterPartitionRequest,
) -> Result<Reply, Refused> {
    let sender = check_broker_epoch(&draft.image, request.broker_id, request.broker_epoch)?;
    let mut results = Vec::with_capacity(request.partitions.len());
    for asked in &request.partitions {
        let mut result = v1::AlterPartitionResult {
            topic_id: asked.topic_id.clone(),
            partition: asked.partition,
            ..Default::default()
        };
        match alter_one(draft, sender, asked) {
            Ok(state) => result.state = Some(state),
            Err(code) => result.error = code as i32,
        }
        results.push(result);
    }
    Ok(Reply::AlterPartition(v1::AlterPartitionReply { results }))
}

fn alter_one(
    draft: &mut Draft,
    sender: BrokerId,
    asked: &v1::AlterPartition,
) -> Result<v1::PartitionRecord, ErrorCode> {
    let key = topic_id_partition(&asked.topic_id, asked.partition).map_err(|_| ErrorCode::UnknownTopicId)?;
    let state = known_partition(&draft.image, key)?;
    check_epochs(state, sender, asked)?;
    let isr: Vec<BrokerId> = asked
        .new_isr
        .iter()
        .map(|member| BrokerId(member.broker_id))
        .collect();
    check_isr(state, sender, &isr, asked.recovery_state())?;
    check_members(&draft.image, state, &asked.new_isr)?;
    let recovered = state.recovering && asked.recovery_state() == v1::RecoveryState::Recovered;
    let change = PartitionChange {
        isr: (!same_members(&isr, &state.isr)).then_some(isr),
        recovered,
        ..Default::default()
    };
    draft
        .change(key, &change)
        .map_err(|_| ErrorCode::UnknownServerError)?;
    Ok(known_partition(&draft.image, key)?.to_record(key))
}

fn known_partition(image: &Image, key: TopicIdPartition) -> Result<&PartitionState, ErrorCode> {
    let topic = image.topic(key.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    topic
        .partitions
        .get(&key.partition)
        .map(AsRef::as_ref)
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn check_epochs(
    state: &PartitionState,
    sender: BrokerId,
    asked: &v1::AlterPartition,
) -> Result<(), ErrorCode> {
    // A higher epoch was given out by a later controller than this one.
    if asked.leader_epoch > state.leader_epoch.get() {
        return Err(ErrorCode::NotController);
    }
    if asked.leader_epoch < state.leader_epoch.get() {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if state.leader != Some(sender) {
        return Err(ErrorCode::InvalidRequest);
    }
    if asked.partition_epoch != state.partition_epoch.get() {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    Ok(())
}

fn check_isr(
    state: &PartitionState,
    sender: BrokerId,
    isr: &[BrokerId],
    recovery: v1::RecoveryState,
) -> Result<(), ErrorCode> {
    let duplicate = |at: usize, id: &BrokerId| isr.iter().skip(at + 1).any(|other| other == id);
    let ok = isr.contains(&sender)
        && isr.iter().all(|id| state.replicas.contains(id))
        && !isr.iter().enumerate().any(|(at, id)| duplicate(at, id));
    if !ok {
        return Err(ErrorCode::InvalidRequest);
    }
    let recovering = recovery == v1::RecoveryState::Recovering;
    if recovering && (!state.recovering || isr.len() != 1) {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

/// Each member must be in service, in the very life that the leader saw fetching.
fn check_members(image: &Image, state: &PartitionState, members: &[v1::IsrMember]) -> Result<(), ErrorCode> {
    let eligible = |member: &v1::IsrMember| {
        image.broker(BrokerId(member.broker_id)).is_some_and(|broker| {
            broker.is_active()
                && broker.epoch == BrokerEpoch(member.broker_epoch)
                && replica_is_online(broker, state)
        })
    };
    if members.iter().all(eligible) {
        Ok(())
    } else {
        Err(ErrorCode::IneligibleReplica)
    }
}

fn same_members(a: &[BrokerId], b: &[BrokerId]) -> bool {
    a.len() == b.len() && a.iter().all(|id| b.contains(id))
}
