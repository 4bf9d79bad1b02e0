//! Medians, and how figures are printed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its results")]

use std::time::Duration;

/// The middle of some measurements; of an even number the lower of the two. Zero if there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 50)
}

/// The smallest value that so many percent of the values do not exceed.
pub(crate) fn quantile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// A time in milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Prints one line: what, how much, and the goal or the peer in the same run.
pub(crate) fn line(what: &str, figure: &str, beside: &str) {
    println!("  {what:<58} {figure:>22}  {beside}");
}

/// Median and 99th percentile of times in milliseconds.
pub(crate) fn spread(values: &[f64]) -> String {
    format!("{:.2} / {:.2} ms", median(values), quantile(values, 99))
}

/// Whether a goal is met, in words.
pub(crate) fn goal(met: bool, text: &str) -> String {
    format!("goal {text}: {}", if met { "met" } else { "MISSED" })
}

/// Begins a group.
pub(crate) fn group(name: &str) {
    println!("\n{name}");
}

/// Says what ended the run early.
pub(crate) fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
}

/// Says what this machine is and how busy it is with other things.
pub(crate) fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!(
        "machine: {cpus} × {}, {} memory",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal")
    );
    println!("kernel:  {}", read("/proc/sys/kernel/osrelease").trim());
    println!("load:    {} (before the run; other work makes every figure worse)", read("/proc/loadavg").trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 99), 3.0);
    }
}
