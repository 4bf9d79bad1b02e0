//! CronJobs: a Job whenever the schedule says so.

mod apply;
mod desired;
mod schedule;

pub(crate) use apply::wire;
