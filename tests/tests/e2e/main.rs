//! End to end: every test starts its own nats-server, masters and workers on free ports, and uses the
//! real command. Never knows how they work inside.

mod address;
mod checkpoint;
mod checkup;
mod confine;
mod connection;
mod dev;
mod echo;
mod failover;
mod frames;
mod grants;
mod guests;
mod identity;
mod keep;
mod languages;
mod later;
mod list;
mod local;
mod log;
mod loss;
mod map;
mod masters;
mod measure;
mod objects;
mod operate;
mod outage;
mod permissions;
mod process_end;
mod refuse;
mod restart;
mod silence;
mod terminal;
mod tokens;
mod twins;
mod unwell;
mod waits;
