//! Remedies that look at what a row holds: JSON that is not quite JSON, and rows made for other services.

use super::params::Endpoint;
use super::problem::{Problem, shorten};
use super::record::Record;
use super::template::spelled;
use crate::json;

const LINE: &str = "each line must hold one JSON object; for CSV or plain text pass --input-format csv|tsv|lines";

/// The problem of a line that is not a JSON object.
pub(super) fn not_json(record: &Record<'_>, text: &str, error: &serde_json::Error) -> Problem {
    let problem =
        |column: usize, text: String, hint: &str| Problem::new(record, "json", text).column(column).hint(hint);
    if error.is_data() {
        // Serde's message would repeat a text in full.
        let begin = text.len() - text.trim_start().len();
        let packed = json::string(text.trim()).is_some_and(|inner| inner.trim_start().starts_with('{'));
        let hint = if packed { "the line is a text that holds JSON; `jq -c fromjson FILE` unpacks it" } else { LINE };
        return problem(begin + 1, format!("not an object: {}", shorten(text.trim_start())), hint);
    }
    // The problem has fields for the place, which serde repeats at the end of its message.
    let said = error.to_string();
    let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    let mut from = (error.column().max(1) - 1).min(text.len());
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    // The parser stops inside a word such as `nope`. People look for the whole word.
    let word = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_alphanumeric);
    while word(from) && from > 0 && word(from - 1) {
        from -= 1;
    }
    if error.is_eof() || matches!(text.trim(), "{" | "[") {
        let hint = "each line must hold one whole JSON object; `jq -c . FILE` puts each on a line of its own";
        let kind = if error.is_eof() { "cut off" } else { "not valid JSON" };
        return problem(from + 1, format!("{kind}: {what}, found the end of the line"), hint);
    }
    let found = shorten(&text[from..]);
    problem(from + 1, format!("not valid JSON: {what}, found `{found}`"), nearly_json(&text[..from], &text[from..]))
}

/// The remedy for a line that is JSON up to `rest`, in the spelling of another language.
fn nearly_json(before: &str, rest: &str) -> &'static str {
    let starts = |words: &[&str]| words.iter().any(|word| rest.starts_with(word));
    let number = rest.trim_start_matches('-');
    if number.starts_with("NaN") || number.starts_with("Infinity") || number.starts_with("inf") {
        "JSON has no NaN or Infinity; write null: pandas does with df.to_json(FILE, orient='records', lines=True)"
    } else if starts(&["'"]) {
        "JSON has double quotes only; Python writes them with json.dumps(row), not with str(row)"
    } else if starts(&["True", "False", "None"]) {
        "JSON spells true, false and null in small letters; Python writes them with json.dumps(row)"
    } else if starts(&["“", "”", "„", "‘", "’"]) {
        "these quotes are typographic; JSON needs the plain \""
    } else if starts(&["}", "]"]) && before.trim_end().ends_with(',') {
        "remove the comma before it: JSON allows none behind the last member"
    } else {
        LINE
    }
}

/// Names of fields that usually hold what is asked.
const USUAL: [&str; 8] = ["question", "text", "content", "query", "instruction", "message", "body", "title"];
/// Names of fields that never do.
const IDS: [&str; 6] = ["id", "custom_id", "model", "label", "system", "max_tokens"];

/// The remedy for a record or a table that has no prompt, given its field names.
pub(super) fn no_prompt(endpoint: Endpoint, names: &[&str]) -> String {
    let has = |name: &&str| names.contains(name);
    let fill = |name: &str| format!("--prompt '{{{{ {} }}}}'", spelled(name));
    if endpoint.is_audio() {
        return "rename the column that names the recordings, by path or URL, to `file`".to_owned();
    }
    if endpoint == Endpoint::Chat && has(&"input") {
        return format!("for embeddings pass --endpoint embeddings; to ask a model pass {}", fill("input"));
    }
    if has(&"params") {
        return "`params` is called `body` here: jq -c '.body = .params | del(.params)' FILE > lines.jsonl".to_owned();
    }
    if let Some(near) = names.iter().find(|name| is_near(name, "prompt")) {
        return format!("did you mean `{}`? pass {}, or rename it to `prompt`", shorten(near), fill(near));
    }
    let usual = USUAL.iter().find(|name| has(name)).copied();
    let field = usual.or_else(|| names.iter().copied().find(|name| !name.is_empty() && !IDS.contains(name)));
    let field = field.unwrap_or("text");
    format!("make the prompt from the fields with --prompt 'Classify: {{{{ {} }}}}'", shorten(&spelled(field)))
}

/// Returns true if a name is another spelling of `word`, or nearly so.
fn is_near(name: &str, word: &str) -> bool {
    let name = name.trim().to_lowercase();
    name == word || name.strip_suffix('s') == Some(word) || strsim::damerau_levenshtein(&name, word) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Data, Params, RequestBuilder};

    fn hint(line: &str) -> String {
        let record = Record { row: 1, number: 1, file: "a", line: 1.into(), data: Data::Json(line) };
        let params = Params { model: Some("m".to_owned()), ..Params::default() };
        RequestBuilder::new(&params).unwrap().request(&record).unwrap_err().hint.unwrap()
    }

    #[test]
    fn other_spellings_and_shapes_get_the_remedy_for_them() {
        for (line, words) in [
            (r#"{"id":2,"prompt":"x","score":NaN}"#, "orient='records'"),
            (r#"{"id":2,"score":-Infinity}"#, "no NaN or Infinity"),
            ("{'id':2,'prompt':'x'}", "json.dumps(row), not with str(row)"),
            (r#"{"prompt":"x","ok":True}"#, "small letters"),
            (r#"{"prompt":"x","a":None}"#, "small letters"),
            (r#"{"prompt":"x",}"#, "remove the comma"),
            (r#"{"prompt":["x",]}"#, "remove the comma"),
            ("{\u{201c}prompt\u{201d}:1}", "typographic"),
            (r#""{\"prompt\":\"x\"}""#, "jq -c fromjson"),
            ("nonsense", "each line must hold one JSON object"),
            (r#"{"prompt":"#, "jq -c ."),
            (r#"{"model":"x","input":"hi"}"#, "--endpoint embeddings"),
            (r#"{"custom_id":"a","params":{"messages":[]}}"#, "`params` is called `body`"),
            (r#"{"id":"a","body":"the mail"}"#, "--prompt 'Classify: {{ body }}'"),
            (r#"{"prompt":[{"role":"user","content":"hi"}]}"#, "these are `messages`"),
            (r#"{"id":1,"question":"why?"}"#, "{{ question }}"),
            (r#"{"id":1,"Review Text":"why?"}"#, r#"{{ row["Review Text"] }}"#),
            (r#"{"ID":1,"Prompt":"why?"}"#, "did you mean `Prompt`? pass --prompt '{{ Prompt }}'"),
            (r#"{"promt":"why?"}"#, "did you mean `promt`?"),
        ] {
            let hint = hint(line);
            assert!(hint.contains(words), "{line}: {hint}");
        }
    }
}
