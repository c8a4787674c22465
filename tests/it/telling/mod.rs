//! Others are told how a command goes and ends, and no failure of telling changes how it ends.

mod log;
mod metrics;
mod notify;
mod on_done;
mod tags;
