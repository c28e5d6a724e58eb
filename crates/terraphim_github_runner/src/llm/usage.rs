//! What answers took.

use serde::Serialize;

use super::config::Price;

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Requests that were answered.
    pub answers: u32,
    /// Tokens that were sent.
    pub prompt_tokens: u64,
    /// Tokens that were answered.
    pub completion_tokens: u64,
    /// What they cost, if a price is configured or the service says.
    pub cost: Option<f64>,
}

impl Usage {
    /// Adds one answer. The service's own word about its cost counts; the price is for those that say nothing.
    pub(super) fn add(&mut self, prompt: u64, completion: u64, said: Option<f64>, price: Option<Price>) {
        self.answers += 1;
        self.prompt_tokens += prompt;
        self.completion_tokens += completion;
        let cost = said.or_else(|| price.map(|price| price.of(prompt, completion)));
        if let Some(cost) = cost {
            *self.cost.get_or_insert(0.0) += cost;
        }
    }
}

impl Price {
    #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^52 tokens")]
    pub(super) fn of(self, prompt: u64, completion: u64) -> f64 {
        (prompt as f64).mul_add(self.input, completion as f64 * self.output) / 1e6
    }

    /// How many answered tokens `money` buys after a prompt; none for what is free of charge.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest integer there is"
    )]
    pub(super) fn affords(self, money: f64, prompt: u64) -> Option<u32> {
        let left = money - self.of(prompt, 0);
        if self.output > 0.0 {
            return Some((left / self.output * 1e6).max(0.0) as u32);
        }
        (left < 0.0).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_bounds_tokens() {
        let price = Price { input: 1.0, output: 10.0 };
        assert!((price.of(1_000_000, 100_000) - 2.0).abs() < 1e-9);
        assert_eq!(price.affords(0.02, 10_000), Some(1000));
        assert_eq!(price.affords(0.001, 10_000), Some(0));
        assert_eq!(Price { input: 0.0, output: 0.0 }.affords(0.0, 10), None);
        let mut usage = Usage::default();
        usage.add(10, 5, None, None);
        assert_eq!(usage.cost, None);
        usage.add(0, 100_000, None, Some(price));
        usage.add(0, 100_000, Some(0.25), Some(price));
        assert_eq!((usage.answers, usage.cost), (3, Some(1.25)));
    }
}
