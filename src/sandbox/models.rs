//! The models that the sandbox offers, and the answer to any other name.

use serde_json::{Value, json};

use super::cache::CachedTokens;

/// One model of the list.
#[derive(Debug)]
struct ListedModel {
    id: &'static str,
    /// `chat`, `language`, `embedding`, …
    kind: &'static str,
    /// Tokens; the live list leaves it out for a quarter of the models.
    context: Option<u64>,
    /// USD per million tokens as the list spells it, with the binary noise that was recorded live.
    input: &'static str,
    output: &'static str,
    batch: bool,
}

type ListPrices = [&'static str; 2];

const fn model(id: &'static str, kind: &'static str, context: Option<u64>, price: ListPrices) -> ListedModel {
    let [input, output] = price;
    ListedModel { id, kind, context, input, output, batch: true }
}

const fn chat(id: &'static str, context: u64, price: ListPrices) -> ListedModel {
    model(id, "chat", Some(context), price)
}

impl ListedModel {
    const fn without_batch(mut self) -> Self {
        self.batch = false;
        self
    }
}

/// Prices and contexts as they stood in November 2026, a few of each sort.
const MODELS: &[ListedModel] = &[
    chat("meta-llama/Llama-3.3-70B-Instruct-Turbo", 131_072, ["1.0399999999999998", "1.0399999999999998"]),
    chat("meta-llama/Llama-3.2-3B-Instruct-Turbo", 131_072, ["0.06", "0.06"]),
    chat("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", 131_072, ["0.18", "0.18"]),
    chat("Qwen/Qwen2.5-7B-Instruct-Turbo", 32_768, ["0.3", "0.3"]),
    chat("Qwen/Qwen3.5-9B", 262_144, ["0.16999999999999998", "0.25"]),
    chat("openai/gpt-oss-20b", 131_072, ["0.049999999999999996", "0.19999999999999998"]),
    chat("openai/gpt-oss-120b", 131_072, ["0.15", "0.6"]),
    chat("zai-org/GLM-4.6", 202_752, ["0.6", "2.2"]),
    chat("sandbox/tiny-context", 256, ["0.1", "0.1"]),
    model("moonshotai/Kimi-K2-Instruct", "chat", None, ["1", "3"]),
    chat("deepseek-ai/DeepSeek-R1", 163_840, ["3", "7"]).without_batch(),
    chat("deepseek-ai/DeepSeek-V3.1", 131_072, ["0.6", "1.7"]).without_batch(),
    chat("deepseek-ai/DeepSeek-V4-Pro", 1_048_576, ["1.32", "3.96"]).without_batch(),
    chat("MiniMaxAI/MiniMax-M2.7", 196_608, ["0.3", "1.2"]).without_batch(),
    chat("moonshotai/Kimi-K2.5", 262_144, ["0.5", "2.8000000000000003"]).without_batch(),
    chat("moonshotai/Kimi-K2.6", 262_144, ["1.2", "4.5"]).without_batch(),
    chat("Qwen/Qwen3.5-397B-A17B", 262_144, ["0.6", "3.5999999999999996"]).without_batch(),
    chat("zai-org/GLM-5", 202_752, ["1", "3.2"]).without_batch(),
    model("mistralai/Mistral-7B-Instruct-v0.3", "language", None, ["0.2", "0.2"]),
    model("intfloat/multilingual-e5-large-instruct", "embedding", Some(514), ["0.02", "0.02"]).without_batch(),
    // A price of zero stands for a model without a serverless endpoint.
    model("meta-llama/Llama-3-8b-hf", "language", None, ["0", "0"]).without_batch(),
    model("Prism-ML/Ternary-Bonsai-27B", "chat", Some(262_144), ["0", "0"]).without_batch(),
];

/// The meaning of a model's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The model answers. So does any name of the form `owner/model` that is not in the list, without a bound on its
    /// context.
    Serves { context: Option<u64>, batch: bool },
    /// The model is in the list but has no serverless endpoint.
    Dedicated,
    /// The model is unknown: a name without `/`, or one that contains `no-such`.
    Unknown,
}

fn listed(id: &str) -> Option<&'static ListedModel> {
    MODELS.iter().find(|model| model.id == id)
}

/// The availability of a model.
pub fn availability(id: &str) -> Availability {
    match listed(id) {
        Some(model) if model.input == "0" => Availability::Dedicated,
        Some(model) => Availability::Serves { context: model.context, batch: model.batch },
        None if id.contains('/') && !id.contains("no-such") => Availability::Serves { context: None, batch: true },
        None => Availability::Unknown,
    }
}

/// Models that cost half in batches.
const HALF: [&str; 2] = ["meta-llama/Llama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.2-3B-Instruct-Turbo"];

/// The price of one token, in billionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPrice {
    pub input: u64,
    /// Of a cached token of the prompt: a tenth, but no second discount where batches have one.
    pub cached_input: u64,
    pub output: u64,
}

/// The price of a model in a `batch` or in real time, if the model is in the list.
pub fn price(id: &str, batch: bool) -> Option<TokenPrice> {
    let model = listed(id)?;
    let (input, output) = (billionths(model.input)?, billionths(model.output)?);
    Some(if batch && HALF.contains(&id) {
        TokenPrice { input: input / 2, cached_input: input / 2, output: output / 2 }
    } else {
        TokenPrice { input, cached_input: input / 10, output }
    })
}

/// The price of one token, from the first three decimals of that of a million, rounded: the rest is binary noise.
fn billionths(per_million: &str) -> Option<u64> {
    let (whole, decimals) = per_million.split_once('.').unwrap_or((per_million, ""));
    let digits: String = whole.chars().chain(decimals.chars().chain("0000".chars()).take(4)).collect();
    Some((digits.parse::<u64>().ok()? + 5) / 10)
}

/// The body of `GET /models`: a bare array, with the prices of cached tokens if there are any.
pub fn list(cached: CachedTokens) -> String {
    // A whole number stays one, and a decimal keeps all its digits: serde_json's own parser rounds the last one.
    let number = |text: &str| text.parse::<u64>().map_or_else(|_| json!(text.parse::<f64>().ok()), Value::from);
    let shown = |model: &ListedModel| {
        let (organization, name) = model.id.split_once('/').unwrap_or(("", model.id));
        let mut shown = json!({
            "id": model.id,
            "object": "model",
            "created": 0,
            "type": model.kind,
            "running": false,
            "display_name": name,
            "organization": organization,
            "link": "",
        });
        if let Some(context) = model.context {
            shown["context_length"] = json!(context);
        }
        shown["pricing"] = json!({
            "hourly": 0,
            "input": number(model.input),
            "output": number(model.output),
            "base": 0,
            "finetune": 0,
            "cached_input": 0,
        });
        if let Some(price) = price(model.id, false).filter(|_| cached != CachedTokens::None) {
            // Billionths of a dollar for a token are thousandths for a million.
            shown["pricing"]["cached_input"] = json!(price.cached_input as f64 / 1000.0);
        }
        shown
    };
    serde_json::to_string_pretty(&MODELS.iter().map(shown).collect::<Vec<_>>()).unwrap_or_default()
}

/// The body of `GET /models` as `OpenAI` writes it: names, and neither prices nor contexts.
pub fn list_openai() -> String {
    let shown = |model: &ListedModel| {
        let owner = model.id.split_once('/').map_or("", |(owner, _)| owner);
        json!({"id": model.id, "object": "model", "created": 0, "owned_by": owner})
    };
    json!({"object": "list", "data": MODELS.iter().map(shown).collect::<Vec<_>>()}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_json_with_the_recorded_oddities() {
        let list: Vec<serde_json::Value> = serde_json::from_str(&list(CachedTokens::None)).unwrap();
        assert_eq!(list.len(), MODELS.len());
        assert!(list.iter().any(|model| model.get("context_length").is_none()));
        assert!(list.iter().any(|model| model["pricing"]["input"] == 0));
        assert_eq!(list[0]["pricing"]["input"].to_string(), "1.0399999999999998");
        assert_eq!(list[0]["pricing"]["cached_input"], 0);
        let list: Vec<serde_json::Value> = serde_json::from_str(&super::list(CachedTokens::Flat)).unwrap();
        assert_eq!(list[0]["pricing"]["cached_input"].to_string(), "0.104");
    }

    #[test]
    fn binary_noise_does_not_change_the_price_of_a_token() {
        let cases = [
            ("meta-llama/Llama-3.2-3B-Instruct-Turbo", false, Some((60, 60))),
            ("meta-llama/Llama-3.2-3B-Instruct-Turbo", true, Some((30, 30))),
            ("meta-llama/Llama-3.3-70B-Instruct-Turbo", false, Some((1040, 1040))),
            ("meta-llama/Llama-3.3-70B-Instruct-Turbo", true, Some((520, 520))),
            ("openai/gpt-oss-20b", true, Some((50, 200))),
            ("Qwen/Qwen3.5-9B", false, Some((170, 250))),
            ("moonshotai/Kimi-K2.5", false, Some((500, 2800))),
            ("nobody/knows-this", false, None),
        ];
        for (model, batch, expected) in cases {
            let found = price(model, batch).map(|price| (price.input, price.output));
            assert_eq!(found, expected, "{model}");
        }
        for model in MODELS {
            let TokenPrice { input, cached_input, output } = price(model.id, false).unwrap();
            assert_eq!(cached_input * 10, input, "{}", model.id);
            let spelled = |text: &str| text.parse::<f64>().unwrap() * 1000.0;
            assert!((spelled(model.input) - input as f64).abs() < 1e-6, "{}", model.id);
            assert!((spelled(model.output) - output as f64).abs() < 1e-6, "{}", model.id);
            assert!(!HALF.contains(&model.id) || (input % 2, output % 2) == (0, 0), "{}", model.id);
        }
    }

    #[test]
    fn a_name_decides_the_availability() {
        let cases = [
            ("Qwen/Qwen2.5-7B-Instruct-Turbo", Availability::Serves { context: Some(32_768), batch: true }),
            ("zai-org/GLM-5", Availability::Serves { context: Some(202_752), batch: false }),
            ("my-org/my-model", Availability::Serves { context: None, batch: true }),
            ("my-org/no-such-model", Availability::Unknown),
            ("gpt-4", Availability::Unknown),
            ("meta-llama/Llama-3-8b-hf", Availability::Dedicated),
        ];
        for (id, expected) in cases {
            assert_eq!(availability(id), expected, "{id}");
        }
    }
}
