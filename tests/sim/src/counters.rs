//! How often each event and each fault happened. A simulation proves something only if the rare ones
//! happened too.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Numbers of events and faults.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            /// Adds the numbers of `other`.
            pub fn add(&mut self, other: &Counters) { $(self.$name += other.$name;)+ }

            /// The numbers, by name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

counters!(
    /// Events that were handled.
    steps,
    /// Worlds that were run.
    worlds,
    /// Faults of every kind, and commands of operators.
    faults,
    /// Runs started.
    runs,
    /// Effects that a gate let through.
    effects,
    /// Tasks acknowledged.
    accepted,
    /// Outcomes committed.
    outcomes,
    /// Workers declared lost.
    lost,
    /// Masters declared lost.
    masters_lost,
    /// Tasks that lost their attempt with its worker.
    redispatched,
    /// Attempts returned.
    returned,
    /// Runs that were preempted.
    preempted,
    /// Tasks that ended as cancelled.
    cancelled,
    /// Outcomes refused because their attempt was not current.
    refused,
    /// Compare-and-sets that failed with a conflict.
    conflicts,
    /// Writes whose answer never came.
    unknown,
    /// Writes that the registry accepted after their sender had stopped waiting for the answer.
    late_landed,
    /// Writes that a worker's client sent again after a reconnect.
    ghosts_landed,
    /// Extensions that a home sent.
    extended,
    /// Extensions by a master in the name of its earlier session.
    extended_for_earlier,
    /// Extensions that made the worker's lease longer.
    leases_extended,
    /// Leases that named another home than before.
    home_switches,
    /// Renewals that a master passed on.
    relayed,
    /// Sessions that ended because their lease lapsed.
    lapsed,
    /// Sessions that ended because another session held the key.
    taken,
    /// Processes killed by the kernel's timer.
    kernel_kills,
    /// Leases released.
    released,
    /// Operator commands that a worker carried out.
    obeyed,
    /// Times that a master held back failovers because too many workers were silent.
    held,
    /// Groups that have waiting tasks and no worker.
    groups_empty,
    /// Masters that noticed a loss of writes in the registry.
    rewound,
    /// Failover guards raised.
    guards,
    /// Streams deleted and created again.
    made_anew,
    /// Connections that broke several times in quick succession.
    flaps,
    /// Nodes of the registry's cluster that failed.
    nodes_lost,
    /// Times that a server without the newest write answered as the leader.
    lags,
    /// Consumers that stopped delivering without an error.
    watches_dead,
    /// Consumers that were replaced because they had missed something.
    rewatched,
    /// Times that a master which is alone stopped following the tasks.
    rests,
    /// Times that a follower found its stream to lack what it knew, for a while.
    followers_lag,
    /// Sessions that ended because a stream lacked something that they knew.
    went_back,
    /// Workers that could not prepare any attempt for a while.
    unwell,
    /// Workers whose lease reported a shortage.
    told_unwell,
    /// Workers whose lease reported the end of the shortage.
    told_well,
    /// Dispatches that were delivered late.
    late_dispatches,
    /// Records and leases that expired.
    expired,
    /// Task ids that were used again after that.
    ids_used_again,
    /// Checkpoints that the registry accepted.
    checkpoints,
    /// Attempts that resumed from the checkpoint of an earlier one.
    resumed,
    /// Attempts whose checkpoint was refused.
    checkpoints_refused,
    /// Rollbacks, in which the registry lost the newest writes.
    rollbacks,
    /// Sessions of masters.
    master_sessions,
    /// Processes that crashed.
    crashes,
    /// Processes stopped for a while.
    stops,
    /// Machines put to sleep.
    sleeps,
    /// Loops that stalled.
    stalls,
    /// Links broken.
    links_broken,
    /// Cuts between two processes.
    cuts,
    /// Outages of the registry.
    outages,
    /// Second processes under the name of a worker.
    twins,
);
