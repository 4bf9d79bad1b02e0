//! The course: lessons that are started in a running lab, checked against its objects and its traffic, hinted at and
//! solved. They are folders in `examples/labs`, and are part of this program.
//!
//! A lesson lives in namespaces of its own, which carry its number and what the learner has done so far. Nothing else
//! is kept anywhere.

mod check;
mod http;
mod lesson;
mod place;
mod progress;
mod solve;

pub(crate) use check::{Verdict, check};
pub(crate) use lesson::{Lesson, find, lessons};
pub(crate) use place::Scene;
pub(crate) use progress::{State, latest, state_of};
pub(crate) use solve::{remove, solve, start};
