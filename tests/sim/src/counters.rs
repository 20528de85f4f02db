//! How often things happened: a simulation is only worth something if the rare ones did.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counts of what happened.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            /// Adds another one's counts.
            pub fn add(&mut self, other: &Counters) { $(self.$name += other.$name;)+ }

            /// The counts by name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

counters!(
    /// Happenings.
    steps,
    /// Worlds.
    worlds,
    /// Faults of every kind, and orders of people.
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
    /// Attempts given back.
    returned,
    /// Runs that had to make room.
    preempted,
    /// Tasks that ended as cancelled.
    cancelled,
    /// Outcomes refused because their attempt was not current.
    refused,
    /// Compare-and-sets that lost.
    conflicts,
    /// Writes whose answer never came.
    unknown,
    /// Writes that landed after their author had given up on them.
    late_landed,
    /// Writes of workers that landed after a reconnect.
    ghosts_landed,
    /// Extensions by a home.
    extended,
    /// Leases that became longer.
    leases_extended,
    /// Leases that named another home than before.
    home_switches,
    /// Renewals through a master.
    relayed,
    /// Sessions that ended because their lease lapsed.
    lapsed,
    /// Sessions that ended because the key was another's.
    taken,
    /// Processes killed by the kernel's timer.
    kernel_kills,
    /// Leases given back.
    released,
    /// Orders obeyed.
    obeyed,
    /// Times that declaring was put off because too many were silent.
    held,
    /// Groups for which tasks wait and that have no worker.
    groups_empty,
    /// Masters that noticed that the registry had lost writes.
    rewound,
    /// Guards raised.
    guards,
    /// Streams deleted and made anew.
    made_anew,
    /// Connections that broke several times within moments.
    flaps,
    /// Times that a leader that was none any more answered.
    lags,
    /// Consumers that showed nothing any more, and nobody said so.
    watches_dead,
    /// Consumers that were replaced because they missed something.
    rewatched,
    /// Times that a master alone stopped following the tasks.
    rests,
    /// Sessions that ended because a stream lacked what they knew.
    went_back,
    /// Workers that could not get anything ready for a while.
    unwell,
    /// Workers whose lease says so.
    told_unwell,
    /// And that they are well again.
    told_well,
    /// Dispatches that came late.
    late_dispatches,
    /// Records and leases whose time was over.
    expired,
    /// Ids of tasks that were used again after that.
    ids_used_again,
    /// Checkpoints that the registry accepted.
    checkpoints,
    /// Attempts that began from what an earlier one left.
    resumed,
    /// Attempts whose checkpoint was refused.
    checkpoints_refused,
    /// Suffixes lost by the registry.
    rollbacks,
    /// Lives of masters.
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
    /// Cuts between two.
    cuts,
    /// Outages of the registry.
    outages,
    /// Second processes under one name.
    twins,
);
