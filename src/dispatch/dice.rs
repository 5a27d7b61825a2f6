//! Seeded randomness, and choosing by weight among entries that come one by one.
//!
//! The seed is an argument: the same seed makes the same choices, on every machine.

/// splitmix64: a few nanoseconds, equidistributed, and the same on every machine for one seed.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
    thrown: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, thrown: 0 }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.thrown += 1;
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly in [0, 1).
    pub fn unit(&mut self) -> f64 {
        // The 53 bits that a double holds exactly.
        let mantissa = (self.next_u64() >> 11) as f64;
        mantissa / (1u64 << 53) as f64
    }

    /// How often it was thrown: what a choice cost.
    pub fn thrown(&self) -> u64 {
        self.thrown
    }
}

/// One winner among entries that come one by one, each with its weight's chance.
#[derive(Debug)]
pub(super) struct Lottery<T> {
    pub(super) winner: Option<T>,
    total: f64,
}

impl<T> Default for Lottery<T> {
    fn default() -> Self {
        Self { winner: None, total: 0.0 }
    }
}

impl<T> Lottery<T> {
    pub(super) fn enter(&mut self, entry: T, weight: f64, dice: &mut Dice) {
        if weight <= 0.0 {
            return;
        }
        self.total += weight;
        if dice.unit() * self.total < weight {
            self.winner = Some(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference sequence of splitmix64 for seed 1234567.
    #[test]
    fn reference_vectors() {
        let mut dice = Dice::new(1_234_567);
        let thrown: Vec<u64> = (0..5).map(|_| dice.next_u64()).collect();
        assert_eq!(
            thrown,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
        assert_eq!(dice.thrown(), 5);
    }

    #[test]
    fn units_are_even_and_below_one() {
        let mut dice = Dice::new(1);
        let mut tenths = [0u32; 10];
        for _ in 0..100_000 {
            let unit = dice.unit();
            assert!((0.0..1.0).contains(&unit));
            tenths[(unit * 10.0) as usize] += 1;
        }
        // Nine degrees of freedom: 33.7 is the 99.99 % point.
        let chi: f64 = tenths.iter().map(|n| (f64::from(*n) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi < 33.7, "{tenths:?}, chi-square {chi}");
    }

    #[test]
    fn lotteries() {
        let mut dice = Dice::new(2);
        let mut wins = [0u32; 3];
        for _ in 0..60_000 {
            let mut lottery = Lottery::default();
            for (entry, weight) in [1.0, 2.0, 3.0].into_iter().enumerate() {
                lottery.enter(entry, weight, &mut dice);
            }
            wins[lottery.winner.unwrap()] += 1;
        }
        let chi: f64 =
            wins.iter().zip([1e4, 2e4, 3e4]).map(|(n, expected)| (f64::from(*n) - expected).powi(2) / expected).sum();
        assert!(chi < 18.5, "{wins:?}, chi-square {chi}");
        let mut nobody = Lottery::default();
        nobody.enter(1, 0.0, &mut dice);
        assert_eq!(nobody.winner, None);
    }
}
