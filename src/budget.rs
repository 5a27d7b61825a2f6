//! What a project has spent, and what stands against its spending more.
//!
//! Spend is a cell, not a queue: a request adds to it when it ends, and reads it when it begins;
//! neither takes a lock. Whoever keeps the books takes what is new, and says what counts of all that
//! was kept. Time is an argument, in seconds since 1970; calendar days are those of UTC.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const HOUR: u64 = 3600;
const DAY_HOURS: u64 = 24;
const WEEK_DAYS: u64 = 7;
/// Of a rolling month.
const MONTH_DAYS: u64 = 30;

/// An amount in both units in which a limit can be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    pub nano_usd: u64,
    pub tokens: u64,
}

impl Spent {
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            nano_usd: self.nano_usd.saturating_add(other.nano_usd),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    pub fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::NanoUsd => self.nano_usd,
            Unit::Tokens => self.tokens,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unit {
    NanoUsd,
    Tokens,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Period {
    Day,
    Week,
    Month,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Window {
    /// From midnight, Monday, the first of the month.
    Calendar,
    /// The last 24 hours, 7 days, 30 days, by whole hours: the hour in which the window begins counts whole.
    Rolling,
}

/// What the requests of one project have added since it was last taken.
#[derive(Debug, Default)]
pub struct SpendCell {
    nano_usd: AtomicU64,
    tokens: AtomicU64,
    out_of_reach: AtomicBool,
}

impl SpendCell {
    /// The books cannot be looked at: what is known may be old.
    pub fn is_out_of_reach(&self) -> bool {
        self.out_of_reach.load(Ordering::Relaxed)
    }

    pub fn set_out_of_reach(&self, is_so: bool) {
        self.out_of_reach.store(is_so, Ordering::Relaxed);
    }

    pub fn add(&self, spent: Spent) {
        self.nano_usd.fetch_add(spent.nano_usd, Ordering::Relaxed);
        self.tokens.fetch_add(spent.tokens, Ordering::Relaxed);
    }

    /// What is new. It goes on counting until it is settled, so that it never counts for nothing.
    pub fn unsettled(&self) -> Spent {
        Spent { nano_usd: self.nano_usd.load(Ordering::Acquire), tokens: self.tokens.load(Ordering::Acquire) }
    }

    /// This much is in the books now.
    pub fn settle(&self, spent: Spent) {
        self.nano_usd.fetch_sub(spent.nano_usd, Ordering::AcqRel);
        self.tokens.fetch_sub(spent.tokens, Ordering::AcqRel);
    }
}

/// What the books say of one budget.
#[derive(Debug, Default)]
pub struct BudgetCell {
    settled: AtomicU64,
    frees_at: AtomicU64,
}

/// Which hours a budget counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reach {
    pub unit: Unit,
    pub period: Period,
    pub window: Window,
}

/// A limit of one project.
#[derive(Clone, Debug)]
pub struct Budget {
    pub id: Box<str>,
    pub reach: Reach,
    /// In the unit of the reach.
    pub limit: u64,
    pub cell: Arc<BudgetCell>,
}

impl Budget {
    /// Seconds since 1970 when there is room again, where there is none now.
    pub fn used_up(&self, unsettled: Spent) -> Option<u64> {
        let settled = self.cell.settled.load(Ordering::Acquire);
        let spent = settled.saturating_add(unsettled.of(self.reach.unit));
        (spent >= self.limit).then(|| self.cell.frees_at.load(Ordering::Acquire))
    }

    pub fn settled(&self) -> u64 {
        self.cell.settled.load(Ordering::Acquire)
    }

    /// Says what counts now, of `hours` in rising order.
    pub fn balance(&self, hours: impl Iterator<Item = (u64, Spent)> + Clone, now: u64) {
        let first = self.reach.first_hour(now);
        let counted = hours.filter(|(hour, _)| *hour >= first).map(|(hour, spent)| (hour, spent.of(self.reach.unit)));
        let sum = counted.clone().fold(0u64, |sum, (_, spent)| sum.saturating_add(spent));
        self.cell.settled.store(sum, Ordering::Release);
        self.cell.frees_at.store(self.reach.frees_at(counted, sum, self.limit, now), Ordering::Release);
    }
}

impl Reach {
    /// The first hour that counts at a time.
    pub fn first_hour(self, now: u64) -> u64 {
        let hour = now / HOUR;
        let day = hour / DAY_HOURS;
        match (self.window, self.period) {
            (Window::Rolling, period) => hour.saturating_sub(rolling_hours(period)),
            (Window::Calendar, Period::Day) => day * DAY_HOURS,
            (Window::Calendar, Period::Week) => day.saturating_sub(weekday(day)) * DAY_HOURS,
            (Window::Calendar, Period::Month) => (day - u64::from(day_of_month(day))) * DAY_HOURS,
        }
    }

    fn frees_at(self, counted: impl Iterator<Item = (u64, u64)>, sum: u64, limit: u64, now: u64) -> u64 {
        let day = now / HOUR / DAY_HOURS;
        let midnight = |day: u64| day * DAY_HOURS * HOUR;
        match (self.window, self.period) {
            (Window::Calendar, Period::Day) => midnight(day + 1),
            (Window::Calendar, Period::Week) => midnight(day - weekday(day).min(day) + WEEK_DAYS),
            (Window::Calendar, Period::Month) => {
                let first = day - u64::from(day_of_month(day));
                let next = (28..=31).map(|days| first + days).find(|day| day_of_month(*day) == 0);
                midnight(next.unwrap_or(first + 31))
            }
            (Window::Rolling, period) => {
                // Hours leave in the order in which they came, until there is room.
                let mut left = sum;
                for (hour, spent) in counted {
                    left = left.saturating_sub(spent);
                    if left < limit {
                        return (hour + rolling_hours(period) + 1) * HOUR;
                    }
                }
                now + rolling_hours(period) * HOUR
            }
        }
    }
}

/// Hours for which spend has to be remembered.
pub const HOURS_KEPT: u64 = 32 * DAY_HOURS;

fn rolling_hours(period: Period) -> u64 {
    match period {
        Period::Day => DAY_HOURS,
        Period::Week => WEEK_DAYS * DAY_HOURS,
        Period::Month => MONTH_DAYS * DAY_HOURS,
    }
}

/// Days since Monday; the first day of 1970 was a Thursday.
fn weekday(day: u64) -> u64 {
    (day + 3) % WEEK_DAYS
}

/// Days since the first of the month, by the proleptic Gregorian calendar (Howard Hinnant's
/// `civil_from_days`).
fn day_of_month(day: u64) -> u32 {
    let of_era = (day + 719_468) % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    u32::try_from(of_year - (153 * month + 2) / 5).unwrap_or_default()
}

/// USD per million tokens, as millionths of a nano-dollar per token: no fraction is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Price {
    pub input: u64,
    pub input_cached: u64,
    pub input_cache_written: u64,
    pub output: u64,
    pub reasoning: u64,
}

/// What an upstream counted of one request. `input` holds all that was read, cached and written parts
/// among it; `output` holds reasoning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub input: u64,
    pub input_cached: u64,
    pub input_cache_written: u64,
    pub output: u64,
    pub output_reasoning: u64,
}

impl Usage {
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Both as far as they are known: a stream tells of its input first and of its output last.
    pub fn or_more(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            input_cached: self.input_cached.max(other.input_cached),
            input_cache_written: self.input_cache_written.max(other.input_cache_written),
            output: self.output.max(other.output),
            output_reasoning: self.output_reasoning.max(other.output_reasoning),
        }
    }
}

impl Price {
    const PER_NANO: u128 = 1_000_000;

    /// Of USD per million tokens. A price is finite and not negative; what is beyond all prices is the
    /// highest there is.
    pub fn per_token(usd_per_mtok: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float that is cast saturates")]
        let price = (usd_per_mtok * 1e9).round() as u64;
        price
    }

    /// In nano-dollars, rounded up: nothing that costs anything is free.
    pub fn nano_usd(&self, usage: &Usage) -> u64 {
        let cached = usage.input_cached.min(usage.input);
        let written = usage.input_cache_written.min(usage.input - cached);
        let reasoning = usage.output_reasoning.min(usage.output);
        let parts = [
            (usage.input - cached - written, self.input),
            (cached, self.input_cached),
            (written, self.input_cache_written),
            (usage.output - reasoning, self.output),
            (reasoning, self.reasoning),
        ];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
        u64::try_from(sum.div_ceil(Self::PER_NANO)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn at(moment: time::OffsetDateTime) -> u64 {
        u64::try_from(moment.unix_timestamp()).unwrap()
    }

    fn budget(unit: Unit, period: Period, window: Window, limit: u64) -> Budget {
        Budget { id: "b".into(), reach: Reach { unit, period, window }, limit, cell: Arc::default() }
    }

    #[test]
    fn calendars() {
        let now = at(datetime!(2026-11-21 06:30:15 UTC)); // a Saturday
        for (period, first, frees) in [
            (Period::Day, datetime!(2026-11-21 00:00 UTC), datetime!(2026-11-22 00:00 UTC)),
            (Period::Week, datetime!(2026-11-16 00:00 UTC), datetime!(2026-11-23 00:00 UTC)),
            (Period::Month, datetime!(2026-11-01 00:00 UTC), datetime!(2026-12-01 00:00 UTC)),
        ] {
            let budget = budget(Unit::Tokens, period, Window::Calendar, 10);
            assert_eq!(budget.reach.first_hour(now), at(first) / HOUR);
            let before = (at(first) / HOUR - 1, Spent { tokens: 100, nano_usd: 0 });
            let within = (now / HOUR, Spent { tokens: 9, nano_usd: 0 });
            budget.balance([before, within].into_iter(), now);
            assert_eq!(budget.used_up(Spent::default()), None);
            assert_eq!(budget.used_up(Spent { tokens: 1, nano_usd: 0 }), Some(at(frees)));
        }
    }

    #[test]
    fn every_month_of_a_century() {
        let month = Reach { unit: Unit::Tokens, period: Period::Month, window: Window::Calendar };
        let mut day = datetime!(1999-12-31 23:59:59 UTC);
        while day.year() < 2101 {
            let first = day.replace_day(1).unwrap().replace_time(time::Time::MIDNIGHT);
            assert_eq!(month.first_hour(at(day)), at(first) / HOUR, "{day}");
            let frees = month.frees_at(std::iter::empty(), 0, 0, at(day));
            let next = time::OffsetDateTime::from_unix_timestamp(i64::try_from(frees).unwrap()).unwrap();
            assert_eq!((next.day(), next.month()), (1, day.month().next()), "{day}");
            assert!(frees > at(day) && frees - at(first) <= 31 * 86_400);
            day += time::Duration::hours(35);
        }
    }

    #[test]
    fn rolling_windows_free_themselves_hour_by_hour() {
        let now = at(datetime!(2026-11-21 06:30 UTC));
        let hour = now / HOUR;
        let budget = budget(Unit::NanoUsd, Period::Day, Window::Rolling, 100);
        let spent = |nano_usd| Spent { nano_usd, tokens: 0 };
        let hours = [(hour - 25, spent(1_000)), (hour - 24, spent(30)), (hour - 3, spent(60)), (hour, spent(50))];
        budget.balance(hours.into_iter(), now);
        assert_eq!(budget.settled(), 140);
        // Without the oldest there are still 110: the next has to leave too.
        assert_eq!(budget.used_up(Spent::default()), Some((hour - 3 + 25) * HOUR));
        budget.balance(hours.into_iter(), now + HOUR);
        assert_eq!(budget.settled(), 110);
        budget.balance(hours.into_iter(), (hour - 3 + 25) * HOUR);
        assert_eq!(budget.used_up(Spent::default()), None);
    }

    #[test]
    fn what_is_being_booked_counts() {
        let cell = SpendCell::default();
        cell.add(Spent { nano_usd: 5, tokens: 7 });
        let taken = cell.unsettled();
        cell.add(Spent { nano_usd: 1, tokens: 1 });
        cell.settle(taken);
        assert_eq!(cell.unsettled(), Spent { nano_usd: 1, tokens: 1 });
    }

    #[test]
    fn prices() {
        let usage =
            Usage { input: 1_000, input_cached: 400, input_cache_written: 100, output: 200, output_reasoning: 50 };
        let price = Price {
            input: Price::per_token(0.15),
            input_cached: Price::per_token(0.075),
            input_cache_written: Price::per_token(0.1875),
            output: Price::per_token(0.6),
            reasoning: Price::per_token(1.2),
        };
        // In nano-dollars: 500 x 150 + 400 x 75 + 100 x 187.5 + 150 x 600 + 50 x 1200.
        assert_eq!(price.nano_usd(&usage), 75_000 + 30_000 + 18_750 + 90_000 + 60_000);
        let cheap = Price { input: 1, ..Price::default() };
        assert_eq!(cheap.nano_usd(&Usage { input: 1, ..Usage::default() }), 1, "rounded up");
        assert_eq!(cheap.nano_usd(&Usage::default()), 0);
        // An upstream that counts more parts than the whole costs no more than the whole.
        let odd = Usage { input: 10, input_cached: 50, input_cache_written: 50, output: 1, output_reasoning: 9 };
        assert_eq!(price.nano_usd(&odd), (10 * 75_000 + 1_200_000u64).div_ceil(1_000));
        assert_eq!(Price::per_token(f64::MAX), u64::MAX);
    }
}
