use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::domain::clock::ManualClock;

/// A history whose process admits `rate` requests per second, and decides nothing about one in ten.
fn history(rate: u64) -> (Arc<ManualClock>, Arc<AtomicU64>, Arc<History>) {
    let clock = ManualClock::at(UnixMillis(0));
    let read = Arc::new(AtomicU64::new(0));
    let (time, count) = (Arc::clone(&clock), Arc::clone(&read));
    let readings: Readings = Arc::new(move || {
        use crate::domain::clock::Clock as _;
        count.fetch_add(1, Ordering::Relaxed);
        let requests = time.monotonic().as_secs() * rate;
        Reading { requests: [requests * 9 / 10, 0, requests / 10, 0], ..Reading::default() }
    });
    let history = History::new(Arc::clone(&clock) as SharedClock, readings);
    (clock, read, history)
}

fn run(clock: &ManualClock, history: &History, seconds: u64) {
    for _ in 0..seconds {
        clock.advance(Duration::from_secs(1));
        history.take_sample_if_due();
    }
}

#[test]
fn history_is_bounded_and_keeps_the_last_hour() {
    let (clock, _, history) = history(10);
    let capacity = |history: &History| history.samples.lock().unwrap().all.capacity();
    let before = capacity(&history);
    run(&clock, &history, 2 * 3_600);
    let samples = history.samples();
    assert_eq!(samples.len(), SAMPLES);
    assert_eq!(samples[0].at, UnixMillis(3_610_000));
    assert_eq!(samples[SAMPLES - 1].at, UnixMillis(7_200_000));
    let bytes = capacity(&history) * size_of::<Sample>();
    println!("{bytes} bytes of history, {} per sample", size_of::<Sample>());
    assert_eq!(capacity(&history), before, "it never grows");
    assert_eq!((capacity(&history), size_of::<Sample>()), (SAMPLES, 136));
    assert!(bytes < 64 * 1_024);
}

#[test]
fn counters_are_read_only_when_a_sample_is_due() {
    let (clock, read, history) = history(10);
    run(&clock, &history, 3_600);
    assert_eq!(read.load(Ordering::Relaxed), 1 + 360);
}

#[test]
fn sampling_allocates_no_more_than_one_reading() {
    let (clock, _, history) = history(10);
    clock.advance(INTERVAL);
    let allocated = allocation_counter::measure(|| history.take_sample_if_due());
    println!("{allocated:?}");
    assert_eq!(allocated.bytes_current, 0, "what a sample needs is there from the start");
    assert_eq!(history.samples().len(), 1);
}

#[test]
fn sample_has_rates() {
    let (clock, _, history) = history(100);
    run(&clock, &history, 10);
    assert_eq!(history.newest().unwrap().requests, [90.0, 0.0, 10.0, 0.0]);
    assert!(history.newest().unwrap().median.is_nan(), "no request was measured");
}

#[test]
fn answered_requests_are_those_of_the_last_minute_up_to_now() {
    let (clock, _, history) = history(10);
    assert_eq!(history.answered(), Answered::default());
    clock.advance(Duration::from_secs(5));
    assert_eq!(history.answered(), Answered { answered: 45, all: 50 }, "without any sample");
    run(&clock, &history, 600);
    let Answered { answered, all } = history.answered();
    assert!((600..700).contains(&all) && answered == all - all / 10, "{answered} of {all}");
}

#[test]
fn quantiles_are_those_of_the_interval() {
    let reading = |counts: [u64; 4]| Reading {
        durations: [0.001, 0.002, 0.004, f64::INFINITY].into_iter().zip(counts).collect(),
        ..Reading::default()
    };
    let before = reading([1_000, 0, 0, 0]);
    let after = reading([1_050, 40, 9, 1]);
    assert!((quantile(&before, &after, 0.5) - 0.001).abs() < 1e-6);
    assert!((quantile(&before, &after, 0.7) - 0.001_5).abs() < 1e-6);
    assert!((quantile(&before, &after, 0.99) - 0.004).abs() < 1e-6);
    assert!((quantile(&before, &after, 1.0) - 0.004).abs() < 1e-6, "above the last bound");
    assert!(quantile(&after, &after, 0.5).is_nan(), "no request");
}
