//! One file for each command, or for a few that share what they do.

pub(crate) mod dashboard;
pub(crate) mod demo;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod endpoints;
pub(crate) mod fault;
pub(crate) mod flows;
pub(crate) mod images;
pub(crate) mod inside;
pub(crate) mod kubectl;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod objects;
pub(crate) mod project;
pub(crate) mod proxy;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod up;
pub(crate) mod why;
pub(crate) mod words;
