//! Rankings of documents by a query. The score of a document depends on the query and its text alone.

use std::borrow::Cow;

use serde::Serialize;

use super::answers::{AnswerTokens, GeneratedAnswer, ServedBody};
use super::bodies::{TokenUsage, pretty};
use super::dice::Dice;
use super::json::{ObjectMembers, elements, string};
use super::request::{InferenceRequest, InvalidBody, hash};
use super::token_text::tokens;

/// Tokens around a query and a document.
const PAIR: u64 = 3;

#[derive(Serialize)]
struct RankingBody<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    results: Vec<RankedDocument<'a>>,
    usage: TokenUsage,
}

#[derive(Serialize)]
struct RankedDocument<'a> {
    index: usize,
    relevance_score: f64,
    document: ShownDocument<'a>,
}

/// A document in a ranking: empty, unless the request asks for it.
#[derive(Serialize)]
struct ShownDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Reads the query and the documents. A document may be an object, which is read as its JSON.
pub fn read<'a>(members: &ObjectMembers<'a>, request: &mut InferenceRequest<'a>) -> Result<(), InvalidBody> {
    let query = members.get("query").and_then(string);
    let query = query.ok_or_else(|| InvalidBody::of("query", "query must be a string"))?;
    let document = |raw: &'a str| if raw.starts_with('{') { Some(Cow::Borrowed(raw)) } else { string(raw) };
    let all = members.get("documents").and_then(|raw| elements(raw).ok());
    let all: Option<Vec<_>> = all.and_then(|all| all.into_iter().map(document).collect());
    let message = "documents must be a non-empty array of strings or objects";
    request.documents = all.filter(|all| !all.is_empty()).ok_or_else(|| InvalidBody::of("documents", message))?;
    request.prompt_tokens = request.documents.iter().map(|text| tokens(&query) + tokens(text) + PAIR).sum();
    request.prompt = Cow::Owned(format!("{query}\n{}", request.documents.join("\n")));
    Ok(())
}

/// The answer to a request for a ranking: the best documents first.
pub fn answer(request: &InferenceRequest<'_>) -> GeneratedAnswer {
    let query = request.prompt.split('\n').next().unwrap_or_default();
    let score = |text: &str| (Dice(hash(&format!("{query}\n{text}"))).unit() * 1e6).round() / 1e6;
    let ranked = |(index, text): (usize, &Cow<'_, str>)| (index, score(text));
    let mut ranks: Vec<(usize, f64)> = request.documents.iter().enumerate().map(ranked).collect();
    ranks.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    ranks.truncate(request.options.top_n.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX));
    let shown = |(index, relevance_score): (usize, f64)| {
        let text = Some(&*request.documents[index]).filter(|_| request.options.returns_documents);
        RankedDocument { index, relevance_score, document: ShownDocument { text } }
    };
    let prompt = request.prompt_tokens;
    let body = pretty(&RankingBody {
        id: format!("s{:016x}-sandbox", request.hash()),
        object: "rerank",
        model: &request.model,
        results: ranks.into_iter().map(shown).collect(),
        usage: TokenUsage::without_answer(prompt),
    });
    GeneratedAnswer { body: ServedBody::Whole(body), tokens: AnswerTokens { prompt, ..AnswerTokens::default() } }
}

#[cfg(test)]
mod tests {
    use super::super::request::{InferenceKind, parse};
    use super::*;

    fn ranking(extra: &str) -> serde_json::Value {
        let documents = r#"["one", {"title":"two"}, "three"]"#;
        let body = format!(r#"{{"model":"a/b","query":"which","documents":{documents}{extra}}}"#);
        let answer = answer(&parse(&body, InferenceKind::Rerank).unwrap());
        let ServedBody::Whole(body) = answer.body else { panic!("a stream") };
        serde_json::from_str(&body).unwrap()
    }

    #[test]
    fn every_document_is_ranked_once_and_the_best_comes_first() {
        let all = ranking("");
        let results = all["results"].as_array().unwrap();
        let mut indexes: Vec<u64> = results.iter().map(|rank| rank["index"].as_u64().unwrap()).collect();
        let scores: Vec<f64> = results.iter().map(|rank| rank["relevance_score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|one, other| one >= other), "{scores:?}");
        indexes.sort_unstable();
        assert_eq!(indexes, [0, 1, 2]);
        assert_eq!(all["usage"]["completion_tokens"], 0);
        assert_eq!(all, ranking(r#","return_documents":false"#));
        let best = ranking(r#","top_n":1,"return_documents":true"#);
        assert_eq!(best["results"].as_array().unwrap().len(), 1);
        assert_eq!(best["results"][0]["index"], results[0]["index"]);
        assert!(best["results"][0]["document"]["text"].is_string());
    }

    #[test]
    fn invalid_bodies_name_the_member() {
        for (members, param) in [
            (r#""documents":["x"]"#, "query"),
            (r#""query":7,"documents":["x"]"#, "query"),
            (r#""query":"x""#, "documents"),
            (r#""query":"x","documents":[]"#, "documents"),
            (r#""query":"x","documents":[7]"#, "documents"),
            (r#""query":"x","documents":["x"],"top_n":0"#, "top_n"),
        ] {
            let body = format!(r#"{{"model":"a/b",{members}}}"#);
            assert_eq!(parse(&body, InferenceKind::Rerank).unwrap_err().param, Some(param), "{body}");
        }
    }
}
