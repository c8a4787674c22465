//! The models that the sandbox offers, and what it says about any other name.

use std::fmt::Write as _;

/// One model of the list.
#[derive(Debug)]
pub struct Model {
    /// Name.
    pub id: &'static str,
    /// `chat`, `language`, `embedding`, …
    pub kind: &'static str,
    /// Tokens; the live list leaves it out for a quarter of the models.
    pub context: Option<u64>,
    /// USD per million tokens as the list spells it, with the binary noise that was recorded live.
    pub price: (&'static str, &'static str),
    /// Whether batch jobs serve it.
    pub batch: bool,
}

const fn chat(id: &'static str, context: u64, price: (&'static str, &'static str)) -> Model {
    Model { id, kind: "chat", context: Some(context), price, batch: true }
}

const fn no_batch(id: &'static str, context: u64, price: (&'static str, &'static str)) -> Model {
    Model { id, kind: "chat", context: Some(context), price, batch: false }
}

/// Prices and contexts as they stood in November 2026, a few of each sort.
pub const MODELS: &[Model] = &[
    chat("meta-llama/Llama-3.3-70B-Instruct-Turbo", 131_072, ("1.0399999999999998", "1.0399999999999998")),
    chat("meta-llama/Llama-3.2-3B-Instruct-Turbo", 131_072, ("0.06", "0.06")),
    chat("meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", 131_072, ("0.18", "0.18")),
    chat("Qwen/Qwen2.5-7B-Instruct-Turbo", 32_768, ("0.3", "0.3")),
    chat("Qwen/Qwen3.5-9B", 262_144, ("0.16999999999999998", "0.25")),
    chat("openai/gpt-oss-20b", 131_072, ("0.049999999999999996", "0.19999999999999998")),
    chat("openai/gpt-oss-120b", 131_072, ("0.15", "0.6")),
    chat("zai-org/GLM-4.6", 202_752, ("0.6", "2.2")),
    chat("sandbox/tiny-context", 256, ("0.1", "0.1")),
    Model { id: "moonshotai/Kimi-K2-Instruct", kind: "chat", context: None, price: ("1", "3"), batch: true },
    no_batch("deepseek-ai/DeepSeek-R1", 163_840, ("3", "7")),
    no_batch("deepseek-ai/DeepSeek-V3.1", 131_072, ("0.6", "1.7")),
    no_batch("deepseek-ai/DeepSeek-V4-Pro", 1_048_576, ("1.32", "3.96")),
    no_batch("MiniMaxAI/MiniMax-M2.7", 196_608, ("0.3", "1.2")),
    no_batch("moonshotai/Kimi-K2.5", 262_144, ("0.5", "2.8000000000000003")),
    no_batch("moonshotai/Kimi-K2.6", 262_144, ("1.2", "4.5")),
    no_batch("Qwen/Qwen3.5-397B-A17B", 262_144, ("0.6", "3.5999999999999996")),
    no_batch("zai-org/GLM-5", 202_752, ("1", "3.2")),
    Model {
        id: "mistralai/Mistral-7B-Instruct-v0.3",
        kind: "language",
        context: None,
        price: ("0.2", "0.2"),
        batch: true,
    },
    Model {
        id: "intfloat/multilingual-e5-large-instruct",
        kind: "embedding",
        context: Some(514),
        price: ("0.02", "0.02"),
        batch: false,
    },
    // A price of zero stands for a model without a serverless endpoint.
    Model { id: "meta-llama/Llama-3-8b-hf", kind: "language", context: None, price: ("0", "0"), batch: false },
    Model { id: "Prism-ML/Ternary-Bonsai-27B", kind: "chat", context: Some(262_144), price: ("0", "0"), batch: false },
];

/// What a name means to the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers. Also any name of the form `owner/model` that is not in the list, without a bound on its context.
    Serves {
        /// Tokens.
        context: Option<u64>,
        /// Whether batch jobs serve it.
        batch: bool,
    },
    /// In the list but without a serverless endpoint.
    Dedicated,
    /// Unknown: a name without `/`, or one that contains `no-such`.
    Unknown,
}

/// What `id` means.
pub fn standing(id: &str) -> Standing {
    match MODELS.iter().find(|model| model.id == id) {
        Some(model) if model.price.0 == "0" => Standing::Dedicated,
        Some(model) => Standing::Serves { context: model.context, batch: model.batch },
        None if id.contains('/') && !id.contains("no-such") => Standing::Serves { context: None, batch: true },
        None => Standing::Unknown,
    }
}

/// Models that cost half in batches.
const HALF: [&str; 2] = ["meta-llama/Llama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.2-3B-Instruct-Turbo"];

/// What a token of the prompt and one of the answer cost, in a `batch` or at realtime, in billionths of a US dollar; none
/// for a model that is not in the list.
pub fn price(id: &str, batch: bool) -> Option<(u64, u64)> {
    let model = MODELS.iter().find(|model| model.id == id)?;
    let part = if batch && HALF.contains(&id) { 2 } else { 1 };
    let token = |text: &str| billionths(text).map(|price| price / part);
    Some((token(model.price.0)?, token(model.price.1)?))
}

/// The price of one token: of the first three decimals of that of a million, rounded, since the rest is binary noise.
fn billionths(per_million: &str) -> Option<u64> {
    let (whole, decimals) = per_million.split_once('.').unwrap_or((per_million, ""));
    let digits: String = whole.chars().chain(decimals.chars().chain("0000".chars()).take(4)).collect();
    Some((digits.parse::<u64>().ok()? + 5) / 10)
}

/// The body of `GET /models`: a bare array.
pub fn list() -> String {
    let mut out = String::from("[");
    for (i, model) in MODELS.iter().enumerate() {
        let (owner, name) = model.id.split_once('/').unwrap_or(("", model.id));
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{comma}\n  {{\n    \"id\": \"{}\",\n    \"object\": \"model\",\n    \"created\": 0,\n    \"type\": \"{}\",\n    \
             \"running\": false,\n    \"display_name\": \"{name}\",\n    \"organization\": \"{owner}\",\n    \"link\": \"\"",
            model.id, model.kind
        );
        if let Some(context) = model.context {
            let _ = write!(out, ",\n    \"context_length\": {context}");
        }
        let (input, output) = model.price;
        let _ = write!(
            out,
            ",\n    \"pricing\": {{\n      \"hourly\": 0,\n      \"input\": {input},\n      \"output\": {output},\n      \
             \"base\": 0,\n      \"finetune\": 0,\n      \"cached_input\": 0\n    }}\n  }}"
        );
    }
    out.push_str("\n]");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_json_with_the_recorded_oddities() {
        let list: Vec<serde_json::Value> = serde_json::from_str(&list()).unwrap();
        assert_eq!(list.len(), MODELS.len());
        assert!(list.iter().any(|model| model.get("context_length").is_none()));
        assert!(list.iter().any(|model| model["pricing"]["input"] == 0));
        assert_eq!(list[0]["pricing"]["input"].to_string(), "1.0399999999999998");
    }

    #[test]
    fn a_token_costs_whole_billionths_and_noise_is_no_money() {
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
            assert_eq!(price(model, batch), expected, "{model}");
        }
        for model in MODELS {
            let (input, output) = price(model.id, false).unwrap();
            let spelled = |text: &str| text.parse::<f64>().unwrap() * 1000.0;
            assert!((spelled(model.price.0) - input as f64).abs() < 1e-6, "{}", model.id);
            assert!((spelled(model.price.1) - output as f64).abs() < 1e-6, "{}", model.id);
            assert!(!HALF.contains(&model.id) || (input % 2, output % 2) == (0, 0), "{}", model.id);
        }
    }

    #[test]
    fn names_and_their_standing() {
        let cases = [
            ("Qwen/Qwen2.5-7B-Instruct-Turbo", Standing::Serves { context: Some(32_768), batch: true }),
            ("zai-org/GLM-5", Standing::Serves { context: Some(202_752), batch: false }),
            ("my-org/my-model", Standing::Serves { context: None, batch: true }),
            ("my-org/no-such-model", Standing::Unknown),
            ("gpt-4", Standing::Unknown),
            ("meta-llama/Llama-3-8b-hf", Standing::Dedicated),
        ];
        for (id, expected) in cases {
            assert_eq!(standing(id), expected, "{id}");
        }
    }
}
