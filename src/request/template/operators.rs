//! The operators that make texts and lists grow, written as filters that bound what they make.
//!
//! The engine's own `+`, `~` and `*` cannot be replaced. So `a ~ b * 2` is given to it as `(a)|concat((b)|times(2))`. Filters
//! bind tighter than all operators, and are applied from left to right, as operators of one rank are.

/// The words between operands, beside operators.
const BOUNDARIES: [&str; 7] = ["not", "and", "or", "in", "if", "else", "recursive"];

/// The ranks of operators, the loosest first: `+` and `-`, then `~`, then `*` and `/`.
const RANKS: usize = 3;

/// A sequence of operands of one rank.
#[derive(Debug, Default, Clone, Copy)]
struct Chain {
    /// Its place in the output.
    start: usize,
    /// The argument of its last filter is not closed.
    open: bool,
    /// The chain is a single operand with filters, so another filter can follow.
    whole: bool,
}

/// An expression on its way to filters.
#[derive(Debug, Default)]
struct Rewriter {
    out: String,
    /// The chains of each rank, in each bracket that is open.
    frames: Vec<[Chain; RANKS]>,
}

/// Rewrites the inside of a tag. `named`: it begins with the tag's name, which is no operand.
pub(super) fn as_filters(inside: &str, named: bool) -> String {
    let bytes = inside.as_bytes();
    let mut rewriter = Rewriter::default();
    rewriter.open();
    let (mut at, mut name, mut operand, mut after_is) = (0, named, false, false);
    while at < bytes.len() {
        let from = at;
        at = end_of_token(bytes, at);
        let token = &inside[from..at];
        let was_is = std::mem::take(&mut after_is);
        match token.as_bytes()[0] {
            byte if byte.is_ascii_whitespace() => {
                rewriter.out.push_str(token);
                after_is = was_is;
                continue;
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
                let boundary = name || BOUNDARIES.contains(&token) && !was_is;
                name = false;
                after_is = token == "is";
                operand = !boundary && !after_is && token != "not";
                rewriter.word(token, boundary);
                continue;
            }
            b'(' | b'[' | b'{' => {
                rewriter.out.push_str(token);
                rewriter.open();
                operand = false;
                continue;
            }
            b')' | b']' | b'}' => rewriter.close(token),
            b',' | b':' | b'=' | b'<' | b'>' | b'!' => {
                rewriter.boundary(token);
                operand = false;
                continue;
            }
            b'+' | b'-' | b'~' | b'*' | b'/' | b'%' if operand => {
                rewriter.operator(token);
                operand = false;
                continue;
            }
            b'+' | b'-' | b'~' | b'*' | b'/' | b'%' | b'|' | b'.' => {
                rewriter.out.push_str(token);
                operand = false;
                continue;
            }
            _ => rewriter.out.push_str(token),
        }
        operand = true;
    }
    while !rewriter.frames.is_empty() {
        rewriter.close("");
    }
    rewriter.out
}

impl Rewriter {
    fn open(&mut self) {
        self.frames.push([Chain { start: self.out.len(), ..Chain::default() }; RANKS]);
    }

    /// Closes the arguments of this rank and of tighter ones.
    fn finish(&mut self, rank: usize) {
        let Some(frame) = self.frames.last_mut() else { return };
        for chain in frame[rank..].iter_mut().rev().filter(|chain| chain.open) {
            self.out.push(')');
            chain.open = false;
        }
    }

    fn close(&mut self, bracket: &str) {
        self.finish(0);
        if self.frames.len() > 1 || bracket.is_empty() {
            self.frames.pop();
        }
        self.out.push_str(bracket);
    }

    fn word(&mut self, token: &str, boundary: bool) {
        if boundary {
            self.boundary(token);
        } else {
            self.out.push_str(token);
        }
    }

    fn boundary(&mut self, token: &str) {
        self.finish(0);
        self.out.push_str(token);
        self.restart(0);
    }

    /// Begins new chains of this rank and of tighter ones.
    fn restart(&mut self, rank: usize) {
        let start = self.out.len();
        if let Some(frame) = self.frames.last_mut() {
            frame[rank..].fill(Chain { start, ..Chain::default() });
        }
    }

    fn operator(&mut self, token: &str) {
        let (rank, filter) = match token {
            "+" => (0, Some("|_plus(")),
            "-" => (0, None),
            "~" => (1, Some("|_concat(")),
            "*" => (2, Some("|_times(")),
            "/" | "//" | "%" => (2, None),
            _ => {
                self.out.push_str(token);
                return;
            }
        };
        self.finish(rank);
        let Some(chain) = self.frames.last_mut().map(|frame| &mut frame[rank]) else { return };
        if let Some(filter) = filter {
            if !chain.whole {
                self.out.insert(chain.start, '(');
                self.out.push(')');
            }
            (chain.open, chain.whole) = (true, true);
            self.out.push_str(filter);
        } else {
            chain.whole = false;
            self.out.push_str(token);
        }
        self.restart(rank + 1);
    }
}

/// The end of the token that begins at `at`.
fn end_of_token(bytes: &[u8], at: usize) -> usize {
    let run = |from: usize, is: &dyn Fn(u8) -> bool| {
        from + bytes[from..].iter().position(|byte| !is(*byte)).unwrap_or(bytes.len() - from)
    };
    match bytes[at] {
        b'"' | b'\'' => super::source::after_string(bytes, at),
        b'0'..=b'9' => {
            let end = run(at, &|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
            let exponent = matches!(bytes[end - 1], b'e' | b'E') && matches!(bytes.get(end), Some(b'-' | b'+'));
            if exponent { run(end + 1, &|byte| byte.is_ascii_digit()) } else { end }
        }
        b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
            run(at, &|byte| byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80)
        }
        byte if byte.is_ascii_whitespace() => run(at, &|byte| byte.is_ascii_whitespace()),
        byte @ (b'*' | b'/') if bytes.get(at + 1) == Some(&byte) => at + 2,
        _ => at + 1,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;

    #[test]
    fn operators_become_filters_of_the_same_rank() {
        for (source, expected) in [
            (" a ", " a "),
            ("a ~ b", "(a )|_concat( b)"),
            ("a+b+c", "(a)|_plus(b)|_plus(c)"),
            ("a - b + c", "(a - b )|_plus( c)"),
            ("a ~ b * 2", "(a )|_concat(( b )|_times( 2))"),
            ("a / b * c", "(a / b )|_times( c)"),
            ("-a * b ** 2", "(-a )|_times( b ** 2)"),
            ("(l * n) ~ ''", "(((l )|_times( n)) )|_concat( '')"),
            ("f(*args, a=1 + 2)", "f(*args, a=(1 )|_plus( 2))"),
            ("a is not none ~ 'x'", "(a is not none )|_concat( 'x')"),
            ("1e-5 + a[1:n+1]", "(1e-5 )|_plus( a[1:(n)|_plus(1)])"),
            ("x if a + b else c", "x if( a )|_plus( b )else c"),
            ("'+' ~ \"~\"", "('+' )|_concat( \"~\")"),
        ] {
            assert_eq!(as_filters(source, false), expected, "{source}");
        }
        assert_eq!(as_filters(" for x in a + b recursive ", true), " for x in( a )|_plus( b )recursive ");
        for broken in ["", " if ) + ", "+", ")~(", "a ~", "'", "1e", "a[b ~", "}*{"] {
            as_filters(broken, true);
        }
    }

    #[test]
    fn filters_give_what_operators_give() {
        let mut engine = Environment::new();
        super::super::bounds::set(&mut engine);
        let values =
            context! { a => 7, b => 2, f => 1.5, s => "x", t => "yz", l => [1, 2], d => context! { k => "v" } };
        for source in [
            "a + b * a - b + a * b / a",
            "a - b - a + b",
            "a / b * f // 1 % 3 + a",
            "-a * -b ** 2 + -f",
            "s ~ t ~ (a + b) ~ -a",
            "s ~ a * b ~ t",
            "s + t * b ~ l",
            "(l + l) * b",
            "l * b + [a + b, s ~ t]",
            "s in t + s and a + b > a * b or not a + b == 9",
            "a if s ~ t == 'xyz' else b",
            "{'q': a + b, 'r': [s ~ t]}",
            "d.k ~ d['k'] ~ l[a - b - 5:b + 0] | join('-' ~ s)",
            "a is odd ~ s",
            "a + b is odd",
            "1e-1 + 2.5e+1 * a",
            "(s ~ t) | upper ~ s | replace('x', t ~ t)",
            "range(a + b) | list | length * b",
            "a ~ none ~ true",
        ] {
            let value = |source: &str| {
                engine.compile_expression(source).and_then(|e| e.eval(&values)).map(|value| value.to_string())
            };
            let (plain, filters) = (value(source), value(&as_filters(source, false)));
            assert_eq!(plain.unwrap(), filters.unwrap(), "{source}: {}", as_filters(source, false));
        }
    }
}
