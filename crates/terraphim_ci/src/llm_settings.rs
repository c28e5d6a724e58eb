//! What the user decides about language models: which service, and how much it may take.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use terraphim_github_runner::llm::{LlmConfig, LlmLimits, Price};

/// `[llm]` in the user's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// The address up to and including `/v1` [default: OpenRouter's].
    pub(crate) url: Option<String>,
    /// The model, by the service's name for it. OpenRouter chooses one itself.
    pub(crate) model: Option<String>,
    /// A file with the key, which only its owner may read. Relative to the home directory's `.config/tci`.
    pub(crate) key_file: Option<PathBuf>,
    /// How long an answer may take.
    pub(crate) timeout_seconds: u64,
    /// How long an answer may be.
    pub(crate) max_tokens: u32,
    /// What a command may cost, in the currency of the prices.
    pub(crate) cost_limit: Option<f64>,
    /// What a million tokens cost that are sent.
    pub(crate) price_in: Option<f64>,
    /// What a million tokens cost that are answered.
    pub(crate) price_out: Option<f64>,
}

impl Default for Settings {
    fn default() -> Settings {
        let (config, limits) = (LlmConfig::new("", ""), LlmLimits::default());
        Settings {
            url: None,
            model: None,
            key_file: None,
            timeout_seconds: config.timeout.as_secs(),
            max_tokens: limits.max_tokens,
            cost_limit: None,
            price_in: None,
            price_out: None,
        }
    }
}

impl Settings {
    /// What is wrong with them: the key and why.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        if let Some(url) = self.url.as_ref().filter(|url| !is_address(url)) {
            let why = "is no address: give one like http://127.0.0.1:11434/v1";
            return Some(("url", format!("`{url}` {why}")));
        }
        if self.model.as_ref().map_or(!self.is_open_router(), |model| model.trim().is_empty()) {
            return Some(("model", "name the model that the service shall use".to_owned()));
        }
        // An hour: a model that thinks longer about a workflow file does not come to an end.
        if !(1..=3600).contains(&self.timeout_seconds) {
            return Some(("timeout-seconds", "give between 1 and 3600 seconds".to_owned()));
        }
        // The shortest workflow file has about as many.
        if self.max_tokens < 64 {
            return Some((
                "max-tokens",
                "give 64 or more: the shortest workflow file has as many".to_owned(),
            ));
        }
        let amounts =
            [("cost-limit", self.cost_limit), ("price-in", self.price_in), ("price-out", self.price_out)];
        if let Some((key, _)) = amounts.iter().find(|(_, amount)| amount.is_some_and(|it| !is_amount(it))) {
            return Some((key, "give an amount of money that is not negative".to_owned()));
        }
        if self.price_in.is_some() != self.price_out.is_some() {
            return Some(("price-in", "`price-in` and `price-out` are given together".to_owned()));
        }
        if self.cost_limit.is_some() && self.price_in.is_none() {
            let why = "needs `price-in` and `price-out`, the prices of a million tokens";
            return Some(("cost-limit", why.to_owned()));
        }
        None
    }

    /// Whether the key in `OPENROUTER_API_KEY` is for this service.
    pub(crate) fn is_open_router(&self) -> bool {
        self.url.as_ref().is_none_or(|url| LlmConfig::new(url, "").is_open_router())
    }

    /// The service; `key` is what it wants to know first.
    pub(crate) fn service(&self, key: Option<String>) -> LlmConfig {
        let mut config = LlmConfig::open_router(key.clone().unwrap_or_default());
        if key.is_none() {
            config.api_key = None;
        }
        if let Some(url) = &self.url {
            config.base_url.clone_from(url);
        }
        if let Some(model) = &self.model {
            config.model.clone_from(model);
        }
        config.timeout = Duration::from_secs(self.timeout_seconds);
        config
    }

    pub(crate) fn limits(&self) -> LlmLimits {
        let default = LlmLimits::default();
        let price = self.price_in.zip(self.price_out).map(|(input, output)| Price { input, output });
        let silence = default.silence.min(Duration::from_secs(self.timeout_seconds));
        LlmLimits { silence, max_tokens: self.max_tokens, price, cost_limit: self.cost_limit, ..default }
    }
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    // A password in an address would stand in every message.
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', ' ', '@'])
    })
}

fn is_amount(amount: f64) -> bool {
    amount.is_finite() && amount >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_only_where_it_is_for() {
        assert!(Settings::default().is_open_router());
        for other in
            ["http://openrouter.ai/api/v1", "https://openrouter.ai.example.org/v1", "https://x/openrouter.ai"]
        {
            let settings = Settings { url: Some(other.to_owned()), ..Settings::default() };
            assert!(!settings.is_open_router(), "{other}");
        }
        let service = Settings::default().service(Some("k".to_owned()));
        assert_eq!(service, LlmConfig::open_router("k"));
        let own = Settings {
            url: Some("http://127.0.0.1:1/v1".into()),
            model: Some("m".into()),
            ..Settings::default()
        };
        assert_eq!(own.service(None), LlmConfig::new("http://127.0.0.1:1/v1", "m"));
    }

    #[test]
    fn bad_values_are_named() {
        for (text, key) in [
            ("url = 'localhost:1'\nmodel = 'm'", "url"),
            ("url = 'http://u:p@h/v1'\nmodel = 'm'", "url"),
            ("url = 'http://h/v1'", "model"),
            ("model = ' '", "model"),
            ("timeout-seconds = 0", "timeout-seconds"),
            ("max-tokens = 1", "max-tokens"),
            ("price-in = -1.0\nprice-out = 1.0", "price-in"),
            ("price-out = 1.0", "price-in"),
            ("cost-limit = 1.0", "cost-limit"),
            ("cost-limit = nan\nprice-in = 1.0\nprice-out = 1.0", "cost-limit"),
        ] {
            let settings: Settings = toml::from_str(text).unwrap();
            assert_eq!(settings.problem().map(|(key, _)| key), Some(key), "{text}");
        }
        let good = "url = 'http://h/v1'\nmodel = 'm'\ncost-limit = 1.0\nprice-in = 0.0\nprice-out = 2.5";
        assert_eq!(toml::from_str::<Settings>(good).unwrap().problem(), None);
    }
}
