//! Templates for `--format`: what Docker's users write of Go's text/template, and nothing else.
//!
//! Known are fields (`.Config.Env`), `$`, quoted words and numbers, the functions `json`, `index`, `len`, `join`,
//! `upper`, `lower`, `println`, `print`, pipes, `range`, `if`, `else` and `end`. Anything else is an error, and so is
//! a field that is not there: a script should not go on with an empty text.

use serde_json::Value;

/// A template, read.
#[derive(Debug)]
pub struct Template(Vec<Node>);

#[derive(Debug)]
enum Node {
    Text(String),
    Show(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
}

/// Commands, each given what the one before gave.
type Pipe = Vec<Vec<Word>>;

#[derive(Clone, Debug)]
enum Word {
    Field(Vec<String>),
    Root(Vec<String>),
    Literal(Value),
    Function(String),
    Group(Pipe),
}

const FUNCTIONS: [&str; 9] = ["json", "index", "len", "join", "upper", "lower", "println", "print", "not"];
/// How deep blocks and parentheses may nest.
const DEPTH_MAX: usize = 32;

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = pieces(text)?;
        let mut at = pieces.into_iter();
        let (nodes, end) = block(&mut at, 0)?;
        match end {
            None => Ok(Self(nodes)),
            Some(end) => Err(format!("`{{{{{end}}}}}` ends nothing")),
        }
    }

    /// Fills it in.
    pub fn render(&self, root: &Value) -> Result<String, String> {
        let mut out = String::new();
        Scope { root, dot: root }.run(&self.0, &mut out)?;
        Ok(out)
    }
}

enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, action)) = rest.split_once("{{") {
        let (action, after) = action.split_once("}}").ok_or("a `{{` without `}}`")?;
        let (trims_left, action) = match action.strip_prefix("- ") {
            Some(action) => (true, action),
            None => (false, action),
        };
        let (trims_right, action) = match action.strip_suffix(" -") {
            Some(action) => (true, action),
            None => (false, action),
        };
        pieces.push(Piece::Text(if trims_left { before.trim_end() } else { before }.to_owned()));
        pieces.push(Piece::Action(action.trim().to_owned()));
        rest = if trims_right { after.trim_start() } else { after };
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Reads nodes up to the `end` or `else` that closes the block, which is given back.
fn block(
    pieces: &mut impl Iterator<Item = Piece>,
    depth: usize,
) -> Result<(Vec<Node>, Option<String>), String> {
    if depth > DEPTH_MAX {
        return Err("its blocks nest too deep".into());
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        match word {
            "end" | "else" if rest.is_empty() => return Ok((nodes, Some(action))),
            "if" | "range" => {
                let pipe = pipe(rest)?;
                let (body, end) = block(pieces, depth + 1)?;
                let (other, end) = match end.as_deref() {
                    Some("else") => block(pieces, depth + 1)?,
                    _ => (Vec::new(), end),
                };
                if end.as_deref() != Some("end") {
                    return Err(format!("`{word}` has no `end`"));
                }
                nodes.push(if word == "if" {
                    Node::If(pipe, body, other)
                } else {
                    Node::Range(pipe, body, other)
                });
            }
            _ if action.starts_with("/*") => {}
            _ => nodes.push(Node::Show(pipe(&action)?)),
        }
    }
    Ok((nodes, None))
}

fn pipe(text: &str) -> Result<Pipe, String> {
    let mut rest = text;
    let pipe = commands(&mut rest, 0)?;
    if rest.is_empty() { Ok(pipe) } else { Err(format!("`{text}` is not understood at `{rest}`")) }
}

fn commands(rest: &mut &str, depth: usize) -> Result<Pipe, String> {
    if depth > DEPTH_MAX {
        return Err("its parentheses nest too deep".into());
    }
    let mut pipe = vec![Vec::new()];
    loop {
        *rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { break };
        match first {
            '|' => {
                pipe.push(Vec::new());
                *rest = &rest[1..];
            }
            ')' => break,
            _ => {
                let word = word(rest, first, depth)?;
                if let Some(command) = pipe.last_mut() {
                    command.push(word);
                }
            }
        }
    }
    if pipe.iter().any(Vec::is_empty) {
        return Err("an action without a command".into());
    }
    Ok(pipe)
}

fn word(rest: &mut &str, first: char, depth: usize) -> Result<Word, String> {
    match first {
        '(' => {
            *rest = &rest[1..];
            let group = commands(rest, depth + 1)?;
            *rest = rest.strip_prefix(')').ok_or("a `(` without `)`")?;
            Ok(Word::Group(group))
        }
        '"' => {
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = stream.next().and_then(Result::ok).ok_or("a `\"` that does not end")?;
            let used = stream.byte_offset();
            *rest = &rest[used..];
            Ok(Word::Literal(Value::String(text)))
        }
        '`' => {
            let (text, after) = rest[1..].split_once('`').ok_or("a '`' that does not end")?;
            *rest = after;
            Ok(Word::Literal(Value::String(text.to_owned())))
        }
        _ => {
            let end = rest
                .find(|c: char| c.is_whitespace() || matches!(c, '|' | '(' | ')' | '"'))
                .unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            *rest = after;
            bare(text)
        }
    }
}

fn bare(text: &str) -> Result<Word, String> {
    let names = |path: &str| -> Result<Vec<String>, String> {
        let names = path.split('.').filter(|_| !path.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let sound = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if names.iter().all(sound) { Ok(names) } else { Err(format!("`{text}` is not a field")) }
    };
    if let Some(path) = text.strip_prefix("$.") {
        return Ok(Word::Root(names(path)?));
    }
    if let Some(path) = text.strip_prefix('.') {
        return Ok(Word::Field(names(path)?));
    }
    match text {
        "$" => Ok(Word::Root(Vec::new())),
        "true" | "false" => Ok(Word::Literal(Value::Bool(text == "true"))),
        _ if FUNCTIONS.contains(&text) => Ok(Word::Function(text.to_owned())),
        _ => match text.parse::<i64>() {
            Ok(number) => Ok(Word::Literal(number.into())),
            Err(_) => Err(format!("`{text}` is not understood")),
        },
    }
}

#[derive(Clone, Copy)]
struct Scope<'a> {
    root: &'a Value,
    dot: &'a Value,
}

impl Scope<'_> {
    fn run(&self, nodes: &[Node], out: &mut String) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Show(pipe) => out.push_str(&plain(&self.pipe(pipe)?)),
                Node::If(pipe, body, other) => {
                    let chosen = if is_true(&self.pipe(pipe)?) { body } else { other };
                    self.run(chosen, out)?;
                }
                Node::Range(pipe, body, other) => {
                    let items: Vec<Value> = match self.pipe(pipe)? {
                        Value::Array(items) => items,
                        Value::Object(map) => map.into_iter().map(|(_, value)| value).collect(),
                        Value::Null => Vec::new(),
                        other => return Err(format!("range over {}, which is no list", plain(&other))),
                    };
                    if items.is_empty() {
                        self.run(other, out)?;
                    }
                    for item in &items {
                        Scope { root: self.root, dot: item }.run(body, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn pipe(&self, pipe: &Pipe) -> Result<Value, String> {
        let mut last = None;
        for command in pipe {
            last = Some(self.command(command, last)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(&self, words: &[Word], piped: Option<Value>) -> Result<Value, String> {
        let (first, rest) = words.split_first().ok_or("an action without a command")?;
        if let Word::Function(name) = first {
            let mut args: Vec<Value> = rest.iter().map(|word| self.word(word)).collect::<Result<_, _>>()?;
            args.extend(piped);
            return call(name, &args);
        }
        match (rest, piped) {
            ([], None) => self.word(first),
            _ => Err("only functions take arguments".into()),
        }
    }

    fn word(&self, word: &Word) -> Result<Value, String> {
        match word {
            Word::Field(path) => field(self.dot, path),
            Word::Root(path) => field(self.root, path),
            Word::Literal(value) => Ok(value.clone()),
            Word::Group(pipe) => self.pipe(pipe),
            Word::Function(name) => Err(format!("`{name}` stands where a value should")),
        }
    }
}

fn field(from: &Value, path: &[String]) -> Result<Value, String> {
    let mut at = from;
    for name in path {
        at = match at {
            Value::Object(map) => map.get(name).ok_or_else(|| format!("there is no field {name}"))?,
            Value::Null => &Value::Null,
            _ => return Err(format!("there is no field {name} in {}", plain(at))),
        };
    }
    Ok(at.clone())
}

fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let wrong = || format!("`{name}` does not take these arguments");
    let text = |f: fn(&str) -> String| match args {
        [Value::String(text)] => Ok(Value::String(f(text))),
        _ => Err(wrong()),
    };
    match (name, args) {
        ("json", [value]) => Ok(Value::String(value.to_string())),
        ("len", [Value::Array(items)]) => Ok(items.len().into()),
        ("len", [Value::Object(map)]) => Ok(map.len().into()),
        ("len", [Value::String(text)]) => Ok(text.len().into()),
        ("len", [Value::Null]) => Ok(0.into()),
        ("join", [Value::Array(items), Value::String(between)]) => {
            Ok(Value::String(items.iter().map(plain).collect::<Vec<_>>().join(between)))
        }
        ("join", [Value::Null, Value::String(_)]) => Ok(Value::String(String::new())),
        ("upper", _) => text(|text| text.to_uppercase()),
        ("lower", _) => text(|text| text.to_lowercase()),
        ("print", args) => Ok(Value::String(args.iter().map(plain).collect::<Vec<_>>().join(" "))),
        ("println", args) => Ok(Value::String(args.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n")),
        ("not", [value]) => Ok(Value::Bool(!is_true(value))),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |at, key| index(&at, key)),
        _ => Err(wrong()),
    }
}

/// A key that a map lacks gives nothing, as in Go; a place that a list lacks is an error.
fn index(at: &Value, key: &Value) -> Result<Value, String> {
    match (at, key) {
        (Value::Object(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or(Value::String(String::new())))
        }
        (Value::Null, Value::String(_)) => Ok(Value::String(String::new())),
        (Value::Array(items), Value::Number(number)) => number
            .as_u64()
            .and_then(|at| items.get(usize::try_from(at).ok()?))
            .cloned()
            .ok_or_else(|| format!("there is no item {number} of {}", items.len())),
        _ => Err("`index` takes a map and a key, or a list and a number".into()),
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "[]".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let image = serde_json::json!({
            "Id": "sha256:1", "Size": 3, "RepoTags": ["a:1", "b:2"],
            "Config": {"Cmd": ["sh", "-c", "x y"], "Env": ["A=1", "B=2"], "Labels": {"k.x": "v", "a": "b"},
                       "Entrypoint": null, "User": ""},
        });
        Template::parse(template)?.render(&image)
    }

    #[test]
    fn what_dockers_users_write() {
        for (template, want) in [
            ("{{.Id}}", "sha256:1"),
            ("{{ .Id }} {{.Size}}", "sha256:1 3"),
            ("{{.Config.Cmd}}", "[sh -c x y]"),
            ("{{.Config.Entrypoint}}", "[]"),
            ("{{.Config.User}}", ""),
            ("{{.Config.Labels}}", "map[a:b k.x:v]"),
            ("{{json .Config.Cmd}}", r#"["sh","-c","x y"]"#),
            ("{{json .Config.Entrypoint}}", "null"),
            ("{{.Config.Env | json}}", r#"["A=1","B=2"]"#),
            (r#"{{index .Config.Labels "k.x"}}"#, "v"),
            (r#"{{index .Config.Labels "none"}}"#, ""),
            ("{{index .RepoTags 1}}", "b:2"),
            ("{{(index .RepoTags 0) | upper}}", "A:1"),
            ("{{range .Config.Env}}{{.}}\n{{end}}", "A=1\nB=2\n"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            ("{{range .Config.Entrypoint}}x{{else}}none{{end}}", "none"),
            ("{{if .Config.Entrypoint}}e{{else}}c{{end}}", "c"),
            ("{{- if .Id -}} yes {{- end -}} ", "yes"),
            ("{{range .RepoTags}}{{$.Id}} {{end}}", "sha256:1 sha256:1 "),
            (r#"{{join .Config.Cmd " "}}"#, "sh -c x y"),
            (r#"{{.Config.Cmd | len}}{{"\t"}}{{`\t`}}"#, "3\t\\t"),
            ("plain", "plain"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (template, why) in [
            ("{{.Nope}}", "no field Nope"),
            ("{{.Id.X}}", "no field X"),
            ("{{.Id", "without `}}`"),
            ("{{printf \"%s\" .Id}}", "`printf` is not understood"),
            ("{{if .Id}}x", "no `end`"),
            ("{{end}}", "ends nothing"),
            ("{{}}", "without a command"),
            ("{{.Id .Id}}", "only functions"),
            ("{{index .RepoTags 9}}", "no item 9"),
            ("{{range .Id}}{{end}}", "no list"),
            ("{{with .Id}}{{end}}", "`with` is not understood"),
            ("{{(.Id}}", "without `)`"),
        ] {
            let error = render(template).expect_err(template);
            assert!(error.contains(why), "{template}: {error}");
        }
        assert!(Template::parse(&"{{if .A}}".repeat(99)).unwrap_err().contains("too deep"));
        assert!(Template::parse(&format!("{{{{{}}}}}", "(".repeat(10_000))).is_err());
    }
}
