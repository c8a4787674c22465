//! Tools that a request offers, and the calls of them that an answer makes.
//!
//! A call depends on the request alone. `tool_choice` can demand or forbid one. Otherwise the prompt decides: an answer
//! calls the tools whose names the prompt contains, unless the last message is the result of a tool.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::json::{ObjectMembers, elements, string};
use super::request::{InvalidBody, hash};
use super::schema;

/// The tools of a request, and which of them an answer may call.
#[derive(Debug, Default)]
pub struct OfferedTools<'a> {
    tools: Vec<OfferedTool<'a>>,
    choice: ToolChoice<'a>,
    /// The answer calls one tool at most.
    one_only: bool,
}

#[derive(Debug)]
struct OfferedTool<'a> {
    name: Cow<'a, str>,
    /// The JSON schema of the arguments.
    parameters: Option<&'a str>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ToolChoice<'a> {
    None,
    #[default]
    Auto,
    Required,
    Named(Cow<'a, str>),
}

/// A call that an answer makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub arguments: String,
}

impl ToolCall {
    /// The call as it stands in a message.
    pub fn shown(&self) -> Value {
        let function = json!({"name": self.name, "arguments": self.arguments});
        json!({"id": self.id, "type": "function", "function": function})
    }
}

impl<'a> OfferedTools<'a> {
    /// Reads the members of a body.
    pub fn parse(members: &ObjectMembers<'a>) -> Result<Self, InvalidBody> {
        let bad = |message: &str| InvalidBody::of("tools", message);
        let raw = members.get("tools").filter(|raw| *raw != "null");
        let raw = raw.map_or_else(|| Ok(Vec::new()), elements).map_err(|_| bad("tools must be an array"))?;
        let tools: Vec<_> =
            raw.into_iter().map(OfferedTool::parse).collect::<Result<_, _>>().map_err(|why| bad(&why))?;
        let choice = choice(members.get("tool_choice"), &tools)?;
        Ok(Self { tools, choice, one_only: members.get("parallel_tool_calls") == Some("false") })
    }

    /// The calls of one choice of an answer to `prompt`; free strings of the arguments get `text`.
    pub fn calls(&self, prompt: &str, has_result: bool, text: &str) -> Vec<ToolCall> {
        let named: Vec<_> = self.tools.iter().filter(|tool| prompt.contains(&*tool.name)).collect();
        let mut called = match &self.choice {
            ToolChoice::None => Vec::new(),
            ToolChoice::Auto if has_result => Vec::new(),
            ToolChoice::Auto => named,
            ToolChoice::Required if named.is_empty() => self.tools.iter().take(1).collect(),
            ToolChoice::Required => named,
            ToolChoice::Named(name) => self.tools.iter().filter(|tool| tool.name == *name).take(1).collect(),
        };
        if self.one_only {
            called.truncate(1);
        }
        called.into_iter().map(|tool| tool.call(text)).collect()
    }
}

impl<'a> OfferedTool<'a> {
    fn parse(raw: &'a str) -> Result<Self, String> {
        let members = ObjectMembers::parse(raw).map_err(|_| "every tool must be an object".to_owned())?;
        match members.get("type").and_then(string).as_deref() {
            Some("function") => {}
            Some(other) => return Err(format!("The sandbox does not support tools of the type {other}")),
            None => return Err("every tool must have a type".to_owned()),
        }
        let function = members.get("function").and_then(|raw| ObjectMembers::parse(raw).ok());
        let function = function.ok_or("every tool must have a function")?;
        let name = function.get("name").and_then(string).filter(|name| !name.is_empty());
        let name = name.ok_or("every function must have a name")?;
        Ok(Self { name, parameters: function.get("parameters") })
    }

    fn call(&self, text: &str) -> ToolCall {
        let schema: Option<Value> = self.parameters.and_then(|raw| serde_json::from_str(raw).ok());
        let arguments = schema.map_or_else(|| json!({}), |schema| schema::instance(&schema, text));
        let arguments = if arguments.is_object() { arguments } else { json!({}) };
        let id = format!("call_{:016x}", hash(&format!("{} {text}", self.name)));
        ToolCall { id, name: self.name.clone().into_owned(), arguments: arguments.to_string() }
    }
}

fn choice<'a>(raw: Option<&'a str>, tools: &[OfferedTool<'_>]) -> Result<ToolChoice<'a>, InvalidBody> {
    let bad = |message: &str| Err(InvalidBody::of("tool_choice", message));
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(ToolChoice::Auto) };
    let choice = match string(raw).as_deref() {
        Some("none") => return Ok(ToolChoice::None),
        Some("auto") => ToolChoice::Auto,
        Some("required") => ToolChoice::Required,
        Some(_) => return bad("tool_choice must be none, auto, required or a function"),
        None => {
            let members = ObjectMembers::parse(raw).ok();
            let of_type = members.as_ref().and_then(|members| string(members.get("type")?));
            if of_type.as_deref() != Some("function") {
                return bad("The sandbox supports none, auto, required and a function as tool_choice");
            }
            let function = members.and_then(|members| ObjectMembers::parse(members.get("function")?).ok());
            match function.and_then(|function| string(function.get("name")?)) {
                Some(name) if tools.iter().any(|tool| tool.name == name) => ToolChoice::Named(name),
                Some(name) => return bad(&format!("tool_choice names {name}, which is not one of the tools")),
                None => return bad("tool_choice must name a function"),
            }
        }
    };
    if tools.is_empty() {
        return bad("tool_choice needs tools");
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: &str = r#""tools":[
        {"type":"function","function":{"name":"get_time"}},
        {"type":"function","function":{"name":"get_weather","parameters":
            {"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}]"#;

    fn parsed(text: &str) -> Result<OfferedTools<'_>, InvalidBody> {
        OfferedTools::parse(&ObjectMembers::parse(text).unwrap())
    }

    #[test]
    fn the_choice_and_the_prompt_decide_what_is_called() {
        let cases: [(&str, &str, bool, &[&str]); 10] = [
            ("", "hello", false, &[]),
            ("", "use get_weather", false, &["get_weather"]),
            ("", "get_weather, then get_time", false, &["get_time", "get_weather"]),
            ("", "use get_weather", true, &[]),
            (r#","parallel_tool_calls":false"#, "get_weather, then get_time", false, &["get_time"]),
            (r#","tool_choice":"none""#, "use get_weather", false, &[]),
            (r#","tool_choice":"required""#, "hello", true, &["get_time"]),
            (r#","tool_choice":"required""#, "use get_weather", false, &["get_weather"]),
            (r#","tool_choice":{"type":"function","function":{"name":"get_weather"}}"#, "x", false, &["get_weather"]),
            (r#","tool_choice":null"#, "get_time", false, &["get_time"]),
        ];
        for (extra, prompt, has_result, expected) in cases {
            let body = format!("{{{TOOLS}{extra}}}");
            let calls = parsed(&body).unwrap().calls(prompt, has_result, "text");
            let names: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
            assert_eq!(names, expected, "{extra} {prompt}");
        }
    }

    #[test]
    fn arguments_fit_the_parameters() {
        let body = format!("{{{TOOLS}}}");
        let calls = parsed(&body).unwrap().calls("get_time get_weather", false, "Oslo");
        let arguments: Vec<_> = calls.iter().map(|call| call.arguments.as_str()).collect();
        assert_eq!(arguments, ["{}", r#"{"city":"Oslo","days":1}"#]);
        assert_ne!(calls[0].id, calls[1].id);
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let cases = [
            (r#"{"tools":{}}"#.to_owned(), "tools", "an array"),
            (r#"{"tools":[{"type":"custom"}]}"#.to_owned(), "tools", "type custom"),
            (r#"{"tools":[{"type":"function","function":{}}]}"#.to_owned(), "tools", "a name"),
            (r#"{"tool_choice":"required"}"#.to_owned(), "tool_choice", "needs tools"),
            (format!(r#"{{{TOOLS},"tool_choice":"any"}}"#), "tool_choice", "none, auto, required"),
            (format!(r#"{{{TOOLS},"tool_choice":{{"type":"allowed_tools"}}}}"#), "tool_choice", "supports"),
            (
                format!(r#"{{{TOOLS},"tool_choice":{{"type":"function","function":{{"name":"f"}}}}}}"#),
                "tool_choice",
                "names f",
            ),
        ];
        for (body, param, part) in cases {
            let why = parsed(&body).unwrap_err();
            assert!(why.param == Some(param) && why.message.contains(part), "{body}: {why:?}");
        }
    }
}
