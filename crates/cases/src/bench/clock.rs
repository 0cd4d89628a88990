//! What counts while a case runs, in which unit, and what asking costs.

use core::fmt;

/// A counter that only goes up.
pub trait Clock {
    /// The counter now. Wraps at 2^64.
    fn now(&self) -> u64;

    /// Counts in a second, when they have a fixed relation to time.
    fn hz(&self) -> Option<u64>;

    /// What one count is.
    fn unit(&self) -> Unit;
}

/// What one count of a [`Clock`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Cycles of the core.
    Cycles,
    /// Nanoseconds of wall time.
    Nanoseconds,
    /// Ticks of a timer that runs at a fixed rate, such as `CNTVCT_EL0`.
    Ticks,
    /// Instructions that an emulator retired. A signal for regressions, never a speed: no count of them is a time.
    EmulatedInstructions,
    /// What an emulator's counter counts when it does not count instructions: it follows the load of the host.
    EmulatedTicks,
}

impl Unit {
    /// The short name printed behind a number.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Cycles => "cycles",
            Unit::Nanoseconds => "ns",
            Unit::Ticks => "ticks",
            Unit::EmulatedInstructions => "emulated instructions",
            Unit::EmulatedTicks => "ticks of emulated time",
        }
    }

    /// Whether counts may be turned into time at all.
    pub const fn is_time(self) -> bool {
        !matches!(self, Unit::EmulatedInstructions | Unit::EmulatedTicks)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a clock itself contributes to a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockCost {
    /// Counts between two readings with nothing in between (the smallest seen).
    pub overhead: u64,
    /// The smallest step the clock makes.
    pub resolution: u64,
}

impl ClockCost {
    /// Reads `clock` often enough to see both. A clock that never moves has the resolution `u64::MAX`.
    pub fn measure(clock: &dyn Clock) -> ClockCost {
        let (mut overhead, mut resolution) = (u64::MAX, u64::MAX);
        for _ in 0..256 {
            let start = clock.now();
            let mut end = clock.now();
            overhead = overhead.min(end.wrapping_sub(start));
            // Bounded: a clock that stands still must not hang the suite.
            for _ in 0..10_000 {
                if end != start {
                    break;
                }
                end = clock.now();
            }
            if end != start {
                resolution = resolution.min(end.wrapping_sub(start));
            }
        }
        ClockCost { overhead, resolution }
    }

    /// Whether the clock never moved.
    pub fn is_stopped(&self) -> bool {
        self.resolution == u64::MAX
    }

    /// The shortest sample whose last digit means something: a thousand steps of the clock, a hundred times its cost.
    pub fn shortest_sample(&self) -> u64 {
        self.resolution.saturating_mul(1000).max(self.overhead.saturating_mul(100))
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    struct Steps(Cell<u64>, u64);

    impl Clock for Steps {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 1);
            self.0.get() / self.1 * self.1
        }
        fn hz(&self) -> Option<u64> {
            None
        }
        fn unit(&self) -> Unit {
            Unit::Ticks
        }
    }

    #[test]
    fn cost_sees_overhead_and_resolution() {
        assert_eq!(ClockCost::measure(&Steps(Cell::new(0), 1)), ClockCost { overhead: 1, resolution: 1 });
        assert_eq!(ClockCost::measure(&Steps(Cell::new(0), 16)), ClockCost { overhead: 0, resolution: 16 });
    }

    #[test]
    fn a_clock_that_stands_still_is_noticed() {
        assert!(ClockCost::measure(&Steps(Cell::new(0), u64::MAX)).is_stopped());
        assert!(!ClockCost::measure(&Steps(Cell::new(0), 1)).is_stopped());
    }
}
