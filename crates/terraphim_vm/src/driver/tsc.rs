//! The rate of the host's time stamp counter.
//!
//! Under QEMU's software emulation the guest reads the host's counter, and the microvm machine offers nothing to
//! calibrate it against: on a loaded host the kernel then hangs at boot unless it is told the rate.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Long enough that the error of two clock readings (tens of nanoseconds) is below 0.01 %.
const SAMPLE: Duration = Duration::from_millis(2);

/// The counter's rate in kHz.
pub(super) fn measure_khz() -> u64 {
    let (clock_a, tsc_a) = sample();
    thread::sleep(SAMPLE);
    let (clock_b, tsc_b) = sample();
    (tsc_b - tsc_a) * 1_000_000 / (clock_b - clock_a).max(1)
}

/// Clock (ns) and counter at the same instant: of several tries the one with the least time between its two clock
/// readings, so that being scheduled away in the middle does no harm.
fn sample() -> (u64, u64) {
    let one = || {
        let before = monotonic_ns();
        let tsc = counter();
        let after = monotonic_ns();
        (after - before, before + (after - before) / 2, tsc)
    };
    let (_, clock, tsc) = (0..8).map(|_| one()).min().expect("eight samples");
    (clock, tsc)
}

fn counter() -> u64 {
    // SAFETY: RDTSC reads a register and touches no memory; Linux leaves it available to user space.
    unsafe { core::arch::x86_64::_rdtsc() }
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicRaw);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_measurements_agree() {
        let (a, b) = (super::measure_khz(), super::measure_khz());
        assert!(a > 100_000, "{a} kHz");
        assert!(a.abs_diff(b) * 100 < a, "{a} and {b} kHz differ by more than 1 %");
    }
}
