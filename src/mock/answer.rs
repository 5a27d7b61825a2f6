//! What the mock says: the last thing it was told, or a call of the first tool it was offered.
//!
//! Knows the requests of each chat API, and makes one [`Prompt`] of any. Counts words as
//! tokens.

use serde_json::{Map, Value, json};

/// Nesting that is followed in a schema.
const SCHEMA_DEPTH_MAX: usize = 16;

/// What matters of a request.
#[derive(Debug, Default)]
pub struct Prompt {
    /// Text of the last turn.
    pub last: String,
    /// The last turn was a tool's result: time to talk.
    pub after_tool: bool,
    /// Words of all turns.
    pub words: u64,
    pub tools: Vec<Tool>,
    /// `Some("")`: any tool must be called; a name: this one.
    pub forced: Option<String>,
    pub refused_tools: bool,
    /// An instance of this is asked for; `true` = any object.
    pub schema: Option<Value>,
    pub words_max: Option<u64>,
}

#[derive(Debug)]
pub struct Tool {
    pub name: String,
    pub parameters: Value,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub text: String,
    /// Name and arguments of the tool that is called instead of talking.
    pub call: Option<(String, String)>,
    pub cut: bool,
    pub words_in: u64,
    pub words_out: u64,
}

impl Prompt {
    pub fn of_chat(request: &Value) -> Self {
        let mut prompt = Self::default();
        for message in array(request, "messages") {
            prompt.hear(text_of(message.get("content")), message.get("role") == Some(&json!("tool")));
        }
        for tool in array(request, "tools") {
            prompt.offer(tool.get("function"));
        }
        prompt.choose(request.get("tool_choice"));
        let format = request.get("response_format");
        prompt.schema = match kind_of(format) {
            "json_object" => Some(Value::Bool(true)),
            "json_schema" => format.and_then(|f| f.pointer("/json_schema/schema")).cloned(),
            _ => None,
        };
        prompt.words_max = number(request, "max_completion_tokens").or_else(|| number(request, "max_tokens"));
        prompt
    }

    pub fn of_responses(request: &Value) -> Self {
        let mut prompt = Self::default();
        match request.get("input") {
            Some(Value::Array(items)) => {
                for item in items {
                    let from_tool = kind_of(Some(item)) == "function_call_output";
                    prompt.hear(text_of(item.get(if from_tool { "output" } else { "content" })), from_tool);
                }
            }
            text => prompt.hear(text_of(text), false),
        }
        for tool in array(request, "tools").filter(|tool| kind_of(Some(tool)) == "function") {
            prompt.offer(Some(tool));
        }
        prompt.choose(request.get("tool_choice"));
        let format = request.pointer("/text/format");
        prompt.schema = match kind_of(format) {
            "json_object" => Some(Value::Bool(true)),
            "json_schema" => format.and_then(|f| f.get("schema")).cloned(),
            _ => None,
        };
        prompt.words_max = number(request, "max_output_tokens");
        prompt
    }

    pub fn of_messages(request: &Value) -> Self {
        let mut prompt = Self::default();
        for message in array(request, "messages") {
            let content = message.get("content");
            let result = array(message, "content").find(|block| kind_of(Some(block)) == "tool_result");
            prompt.hear(text_of(result.map_or(content, |block| block.get("content"))), result.is_some());
        }
        prompt.words += words(&text_of(request.get("system")));
        for tool in array(request, "tools") {
            prompt.offer_as(tool.get("name"), tool.get("input_schema"));
        }
        let choice = request.get("tool_choice");
        match kind_of(choice) {
            "none" => prompt.refused_tools = true,
            "any" => prompt.forced = Some(String::new()),
            "tool" => prompt.choose(choice),
            _ => {}
        }
        prompt.schema = request.pointer("/output_config/format/schema").cloned();
        prompt.words_max = number(request, "max_tokens");
        prompt
    }

    pub fn of_contents(request: &Value) -> Self {
        let mut prompt = Self::default();
        for content in array(request, "contents") {
            let result = array(content, "parts").find_map(|part| part.get("functionResponse")?.get("response"));
            let text = match result {
                Some(response) => text_of(response.get("result")),
                None => text_of(content.get("parts")),
            };
            prompt.hear(text, result.is_some());
        }
        prompt.words += words(&text_of(request.pointer("/systemInstruction/parts")));
        for function in array(request, "tools").flat_map(|tool| array(tool, "functionDeclarations")) {
            let parameters = function.get("parameters").or_else(|| function.get("parametersJsonSchema"));
            prompt.offer_as(function.get("name"), parameters);
        }
        let choice = request.pointer("/toolConfig/functionCallingConfig");
        match choice.and_then(|choice| choice.get("mode")).and_then(Value::as_str) {
            Some("NONE") => prompt.refused_tools = true,
            Some("ANY") => {
                let first = choice.and_then(|choice| choice.pointer("/allowedFunctionNames/0"));
                prompt.forced = Some(first.and_then(Value::as_str).unwrap_or_default().to_owned());
            }
            _ => {}
        }
        let config = request.get("generationConfig").unwrap_or(&Value::Null);
        prompt.schema = config.get("responseSchema").or_else(|| config.get("responseJsonSchema")).cloned();
        prompt.words_max = number(config, "maxOutputTokens");
        prompt
    }

    pub fn of_converse(request: &Value) -> Self {
        let mut prompt = Self::default();
        for message in array(request, "messages") {
            let result = array(message, "content").find_map(|block| block.get("toolResult"));
            prompt.hear(text_of(result.unwrap_or(message).get("content")), result.is_some());
        }
        prompt.words += words(&text_of(request.get("system")));
        for tool in request.get("toolConfig").into_iter().flat_map(|config| array(config, "tools")) {
            prompt.offer_as(tool.pointer("/toolSpec/name"), tool.pointer("/toolSpec/inputSchema/json"));
        }
        if let Some(choice) = request.pointer("/toolConfig/toolChoice") {
            let named = choice.pointer("/tool/name").and_then(Value::as_str);
            prompt.forced = named.or_else(|| choice.get("any").map(|_| "")).map(str::to_owned);
        }
        prompt.words_max = request.get("inferenceConfig").and_then(|config| number(config, "maxTokens"));
        prompt
    }

    pub fn of_text(prompt: Option<&Value>, words_max: Option<u64>) -> Self {
        let mut this = Self { words_max, ..Self::default() };
        this.hear(text_of(prompt), false);
        this
    }

    pub fn answer(&self) -> Said {
        let words_in = self.words.max(1);
        if let Some(tool) = self.called() {
            let arguments = instance(&tool.parameters, 0).to_string();
            let words_out = words(&arguments).max(1);
            return Said {
                text: String::new(),
                call: Some((tool.name.clone(), arguments)),
                cut: false,
                words_in,
                words_out,
            };
        }
        let full = match &self.schema {
            Some(Value::Bool(_)) => json!({ "mock": self.last }).to_string(),
            Some(schema) => instance(schema, 0).to_string(),
            None => format!("mock: {}", self.last),
        };
        let wanted = self.words_max.filter(|max| *max < words(&full));
        let text = match wanted {
            Some(max) => {
                full.split_whitespace().take(usize::try_from(max).unwrap_or(usize::MAX)).collect::<Vec<_>>().join(" ")
            }
            None => full,
        };
        let words_out = words(&text);
        Said { text, call: None, cut: wanted.is_some(), words_in, words_out }
    }

    fn called(&self) -> Option<&Tool> {
        match &self.forced {
            Some(name) if !name.is_empty() => self.tools.iter().find(|tool| tool.name == *name),
            Some(_) => self.tools.first(),
            None if self.after_tool || self.refused_tools => None,
            None => self.tools.first(),
        }
    }

    fn hear(&mut self, text: String, from_tool: bool) {
        self.words += words(&text);
        self.last = text;
        self.after_tool = from_tool;
    }

    fn offer(&mut self, function: Option<&Value>) {
        self.offer_as(function.and_then(|f| f.get("name")), function.and_then(|f| f.get("parameters")));
    }

    fn offer_as(&mut self, name: Option<&Value>, parameters: Option<&Value>) {
        if let Some(name) = name.and_then(Value::as_str) {
            self.tools.push(Tool { name: name.to_owned(), parameters: parameters.cloned().unwrap_or_default() });
        }
    }

    fn choose(&mut self, choice: Option<&Value>) {
        match choice {
            Some(Value::String(word)) if word == "none" => self.refused_tools = true,
            Some(Value::String(word)) if word == "required" => self.forced = Some(String::new()),
            Some(named @ Value::Object(_)) => {
                let name = named.pointer("/function/name").or_else(|| named.get("name"));
                self.forced = Some(name.and_then(Value::as_str).unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
}

impl Said {
    /// The text in the pieces of a stream: words with the space before them.
    pub fn pieces(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive(char::is_whitespace)
    }
}

/// A value that fits the schema, the same each time.
fn instance(schema: &Value, depth: usize) -> Value {
    if depth > SCHEMA_DEPTH_MAX {
        return Value::Null;
    }
    if let Some(fixed) = schema.get("const").or_else(|| array(schema, "enum").next()) {
        return fixed.clone();
    }
    if let Some(one) = array(schema, "anyOf").chain(array(schema, "oneOf")).next() {
        return instance(one, depth + 1);
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        kind => kind.and_then(Value::as_str),
    };
    // Gemini writes its types large.
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("string") => json!("mock"),
        Some("integer") => json!(1),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => schema.get("items").map_or_else(|| json!([]), |items| json!([instance(items, depth + 1)])),
        _ => {
            let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            Value::Object(
                members.map(|(name, member)| (name.clone(), instance(member, depth + 1))).collect::<Map<_, _>>(),
            )
        }
    }
}

/// A string, or the `text` of a list of parts.
pub fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str()));
            texts.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

pub fn words(text: &str) -> u64 {
    u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX)
}

pub fn array<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}

fn number(value: &Value, member: &str) -> Option<u64> {
    value.get(member).and_then(Value::as_u64)
}

fn kind_of(value: Option<&Value>) -> &str {
    value.and_then(|v| v.get("type")).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Value {
        json!([{"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}])
    }

    #[test]
    fn what_it_says() {
        let user = json!({"role": "user", "content": "hello there"});
        let result = json!({"role": "tool", "content": "sunny"});
        let parts = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]});
        let call = Some("weather".to_owned());
        for (request, text, called) in [
            (json!({"messages": [user]}), "mock: hello there", None),
            (json!({"messages": [parts]}), "mock: a b", None),
            (json!({"messages": [user], "tools": tools()}), "", call.clone()),
            (json!({"messages": [user], "tools": tools(), "tool_choice": "none"}), "mock: hello there", None),
            (json!({"messages": [user, result], "tools": tools()}), "mock: sunny", None),
            (json!({"messages": [user, result], "tools": tools(), "tool_choice": "required"}), "", call),
            (json!({"messages": [user], "max_tokens": 2}), "mock: hello", None),
            (
                json!({"messages": [user], "response_format": {"type": "json_object"}}),
                "{\"mock\":\"hello there\"}",
                None,
            ),
            (json!({}), "mock: ", None),
        ] {
            let said = Prompt::of_chat(&request).answer();
            assert_eq!(
                (said.text.as_str(), said.call.as_ref().map(|(name, _)| name.clone())),
                (text, called),
                "{request}"
            );
            assert_eq!(said.pieces().collect::<String>(), said.text);
            if let Some((_, arguments)) = said.call {
                assert_eq!(arguments, "{\"city\":\"mock\",\"days\":1}");
            }
        }
    }

    #[test]
    fn responses_says_the_same() {
        let input = json!([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]);
        assert_eq!(Prompt::of_responses(&json!({"input": input})).answer().text, "mock: hi");
        assert_eq!(Prompt::of_responses(&json!({"input": "hi"})).answer().text, "mock: hi");
        let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}});
        let asked = json!({"input": "hi", "tools": [tool]});
        assert_eq!(Prompt::of_responses(&asked).answer().call, Some(("f".into(), "{}".into())));
        let after = json!({"input": [{"type": "function_call_output", "output": "42"}], "tools": [tool]});
        assert_eq!(Prompt::of_responses(&after).answer().text, "mock: 42");
    }
}
