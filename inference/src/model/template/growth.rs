//! How much larger than its input anything may become that a chat template makes of it.
//!
//! A template comes with a model file from a stranger, and the engine that renders it counts steps, not bytes: `{% set s = s ~ s %}` forty
//! times is a terabyte in 160 steps, and `indent(10 ** 12)` is one step. So the template is read before it is compiled (the compiler already
//! computes constants), and refused unless every value it can make is bounded.
//!
//! A *weight* counts in units of the largest input: all messages and the template's source together. A number weighs nothing, an input or a
//! literal text one unit, a concatenation the sum of its sides. What a loop assigns is gone with its turn; only a namespace carries a value
//! over, so its attributes are weighed until they no longer grow, and refused if they do. Statements, filters and functions that are not
//! weighed here are refused. SmolLM2's template weighs 6, Llama 3's about as much.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{
    Token,
    ast::{BinOpKind, Call, CallArg, Expr, Filter, Stmt},
    parse, tokenize,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;

/// Longest source in bytes: templates with tools have about 15,000.
pub const SOURCE_BYTES_MAX: usize = 64 << 10;
/// Functions of the engine that make something out of nothing; the template's environment lacks them too.
pub const FUNCTIONS_REFUSED: [&str; 3] = ["debug", "dict", "range"];
/// Most units a single value may weigh.
pub const WEIGHT_MAX: u64 = 32;
/// Most units that all assignments of a template may weigh together.
pub const ASSIGNED_MAX: u64 = 256;
/// Most tokens within one tag, and most `elif`: both nest, and what nests is walked by recursion.
const NESTING_MAX: usize = 512;
/// Times a template is weighed before an attribute that still grows is refused.
const PASSES_MAX: usize = 8;
/// Longest separator or replacement, and widest indentation, that a filter may be given.
const PIECE_BYTES_MAX: usize = 15;

/// Why a template is refused.
#[derive(Debug, thiserror::Error)]
pub enum GrowthError {
    /// It is not a template.
    #[error("{0}")]
    Syntax(#[from] minijinja::Error),
    /// Too long or too deeply nested.
    #[error("{what}: {got}, at most {max} accepted")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The size found.
        got: u64,
        /// The most accepted.
        max: u64,
    },
    /// Something whose result has no bound, or none that is known here.
    #[error("{0} is not accepted in a chat template: its result could outgrow the prompt")]
    Unbounded(String),
    /// An attribute that each turn of a loop makes longer.
    #[error("attribute {0} of a namespace grows with every turn of a loop")]
    Grows(String),
}

/// Refuses a template unless every value it can make is at most [`WEIGHT_MAX`] times its input.
///
/// # Errors
/// [`GrowthError`].
pub fn check(source: &str, syntax: &SyntaxConfig) -> Result<(), GrowthError> {
    most("bytes of the template", source.len(), SOURCE_BYTES_MAX)?;
    check_nesting(source, syntax)?;
    let template = parse(source, "chat", syntax.clone())?;
    let mut scale = Scale::default();
    find_namespaces(std::slice::from_ref(&template), &mut scale.namespaces);
    for _ in 0..PASSES_MAX {
        let before = scale.attributes.clone();
        (scale.variables, scale.assigned) = (inputs(), 0);
        scale.statements(std::slice::from_ref(&template))?;
        if scale.attributes == before {
            return Ok(());
        }
    }
    Err(GrowthError::Grows(scale.attributes.into_keys().map(|(_, attribute)| attribute).collect::<Vec<_>>().join(", ")))
}

fn most(what: &'static str, got: usize, max: usize) -> Result<(), GrowthError> {
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    if got > max { Err(GrowthError::TooLarge { what, got: wide(got), max: wide(max) }) } else { Ok(()) }
}

fn check_nesting(source: &str, syntax: &SyntaxConfig) -> Result<(), GrowthError> {
    let (mut in_tag, mut branches) = (0, 0);
    for token in tokenize(source, false, syntax.clone()) {
        match token?.0 {
            Token::VariableStart | Token::BlockStart => in_tag = 0,
            Token::Ident("elif") => branches += 1,
            _ => in_tag += 1,
        }
        most("tokens in one tag", in_tag, NESTING_MAX)?;
        most("elif branches", branches, NESTING_MAX)?;
    }
    Ok(())
}

fn inputs() -> BTreeMap<String, u64> {
    ["messages", "bos_token", "eos_token"].map(|name| (name.to_owned(), 1)).into()
}

/// Names that hold a namespace somewhere: they may hold nothing else.
fn find_namespaces(statements: &[Stmt<'_>], found: &mut BTreeSet<String>) {
    for statement in statements {
        match statement {
            Stmt::Template(template) => find_namespaces(&template.children, found),
            Stmt::ForLoop(each) => [&each.body, &each.else_body].into_iter().for_each(|body| find_namespaces(body, found)),
            Stmt::IfCond(branch) => [&branch.true_body, &branch.false_body].into_iter().for_each(|body| find_namespaces(body, found)),
            Stmt::Set(set) => {
                if let (Expr::Var(name), Some(_)) = (&set.target, new_namespace(&set.expr)) {
                    found.insert(name.id.to_owned());
                }
            }
            _ => {}
        }
    }
}

fn new_namespace<'a, 'b>(value: &'a Expr<'b>) -> Option<&'a Call<'b>> {
    match value {
        Expr::Call(call) if matches!(&call.expr, Expr::Var(name) if name.id == "namespace") => Some(call),
        _ => None,
    }
}

fn unbounded<T>(what: impl Into<String>) -> Result<T, GrowthError> {
    Err(GrowthError::Unbounded(what.into()))
}

fn within(weight: u64) -> Result<u64, GrowthError> {
    if weight > WEIGHT_MAX {
        return Err(GrowthError::TooLarge { what: "size of a value, in inputs", got: weight, max: WEIGHT_MAX });
    }
    Ok(weight)
}

/// Weights known at one place of the template. All are at most [`WEIGHT_MAX`] and factors are small, so nothing overflows.
#[derive(Debug, Default)]
struct Scale {
    variables: BTreeMap<String, u64>,
    namespaces: BTreeSet<String>,
    /// By namespace and attribute; only ever rises.
    attributes: BTreeMap<(String, String), u64>,
    assigned: u64,
}

impl Scale {
    fn statements(&mut self, statements: &[Stmt<'_>]) -> Result<(), GrowthError> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), GrowthError> {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.weigh(&emit.expr).map(drop),
            Stmt::IfCond(branch) => {
                self.weigh(&branch.expr)?;
                let before = self.variables.clone();
                self.statements(&branch.true_body)?;
                let taken = std::mem::replace(&mut self.variables, before);
                self.statements(&branch.false_body)?;
                for (name, weight) in taken {
                    let known = self.variables.entry(name).or_default();
                    *known = weight.max(*known);
                }
                Ok(())
            }
            Stmt::ForLoop(each) if each.recursive => unbounded("a recursive loop"),
            Stmt::ForLoop(each) => {
                let weight = self.weigh(&each.iter)?;
                let before = self.variables.clone();
                self.variables.insert("loop".into(), weight);
                self.assign(&each.target, weight)?;
                each.filter_expr.iter().try_for_each(|filter| self.weigh(filter).map(drop))?;
                self.statements(&each.body)?;
                self.variables = before;
                self.statements(&each.else_body)
            }
            Stmt::Set(set) => match (&set.target, new_namespace(&set.expr)) {
                (Expr::Var(name), Some(call)) => self.open(name.id, &call.args),
                _ => {
                    let weight = self.weigh(&set.expr)?;
                    self.assign(&set.target, weight)
                }
            },
            Stmt::WithBlock(_) => unbounded("with"),
            Stmt::SetBlock(_) => unbounded("a set block"),
            Stmt::AutoEscape(_) => unbounded("autoescape"),
            Stmt::FilterBlock(_) => unbounded("a filter block"),
            Stmt::Macro(_) | Stmt::CallBlock(_) => unbounded("a macro"),
            Stmt::Block(_) | Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => unbounded("another template"),
            Stmt::Do(_) => unbounded("do"),
        }
    }

    /// `set name = namespace(attribute=value, ..)`.
    fn open(&mut self, name: &str, arguments: &[CallArg<'_>]) -> Result<(), GrowthError> {
        for argument in arguments {
            let CallArg::Kwarg(attribute, value) = argument else { return unbounded("a namespace made of anything but named values") };
            let weight = self.weigh(value)?;
            self.keep(name, attribute, weight)?;
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, attribute: &str, weight: u64) -> Result<(), GrowthError> {
        self.count(weight)?;
        let known = self.attributes.entry((name.to_owned(), attribute.to_owned())).or_default();
        *known = weight.max(*known);
        Ok(())
    }

    fn count(&mut self, weight: u64) -> Result<(), GrowthError> {
        self.assigned += weight;
        if self.assigned > ASSIGNED_MAX {
            return Err(GrowthError::TooLarge { what: "size of all variables, in inputs", got: self.assigned, max: ASSIGNED_MAX });
        }
        Ok(())
    }

    fn assign(&mut self, target: &Expr<'_>, weight: u64) -> Result<(), GrowthError> {
        match target {
            Expr::Var(name) if self.namespaces.contains(name.id) => unbounded(format!("{} as a namespace and as something else", name.id)),
            Expr::Var(name) => {
                self.count(weight)?;
                self.variables.insert(name.id.to_owned(), weight);
                Ok(())
            }
            Expr::GetAttr(place) => match &place.expr {
                Expr::Var(name) if self.namespaces.contains(name.id) => self.keep(name.id, place.name, weight),
                _ => unbounded("setting an attribute of anything but a namespace"),
            },
            Expr::Tuple(targets) => targets.items.iter().try_for_each(|target| self.assign(target, weight)),
            Expr::List(targets) => targets.items.iter().try_for_each(|target| self.assign(target, weight)),
            other => unbounded(format!("setting a {}", other.description())),
        }
    }

    fn weigh(&self, value: &Expr<'_>) -> Result<u64, GrowthError> {
        within(match value {
            Expr::Var(name) if self.namespaces.contains(name.id) => return unbounded(format!("namespace {} as a value", name.id)),
            Expr::Var(name) => self.variables.get(name.id).copied().unwrap_or(0),
            Expr::Const(literal) => match literal.value.kind() {
                ValueKind::Undefined | ValueKind::None | ValueKind::Bool | ValueKind::Number => 0,
                _ => 1,
            },
            Expr::Slice(slice) => {
                [&slice.start, &slice.stop, &slice.step].into_iter().flatten().try_for_each(|bound| self.weigh(bound).map(drop))?;
                self.weigh(&slice.expr)?.max(1)
            }
            Expr::UnaryOp(operation) => self.weigh(&operation.expr).map(|_| 0)?,
            Expr::BinOp(operation) => {
                let (left, right) = (self.weigh(&operation.left)?, self.weigh(&operation.right)?);
                match operation.op {
                    BinOpKind::Add => left + right,
                    BinOpKind::Concat => left + right + 1,
                    BinOpKind::ScAnd | BinOpKind::ScOr => left.max(right),
                    BinOpKind::Mul | BinOpKind::Pow => return unbounded("multiplication"),
                    _ => 0,
                }
            }
            Expr::Compare(chain) => {
                self.weigh(&chain.expr)?;
                chain.ops.iter().try_for_each(|operation| self.weigh(&operation.expr).map(drop))?;
                0
            }
            Expr::IfExpr(choice) => {
                self.weigh(&choice.test_expr)?;
                let otherwise = choice.false_expr.as_ref().map_or(Ok(0), |value| self.weigh(value))?;
                self.weigh(&choice.true_expr)?.max(otherwise)
            }
            Expr::Filter(filter) => self.filter(filter)?,
            Expr::Test(test) => {
                self.arguments(&test.args)?;
                self.weigh(&test.expr).map(|_| 0)?
            }
            Expr::GetAttr(place) => match &place.expr {
                Expr::Var(name) if self.namespaces.contains(name.id) => self.attribute(name.id, place.name),
                holder => self.weigh(holder)?,
            },
            Expr::GetItem(place) => {
                self.weigh(&place.subscript_expr)?;
                let whole = self.weigh(&place.expr)?;
                // One piece of a text weighs no more than the text.
                match &place.expr {
                    Expr::Call(call) => self.split_text(call)?.unwrap_or(whole),
                    _ => whole,
                }
            }
            Expr::Call(call) => self.call(call)?,
            Expr::List(list) => self.sum(&list.items)?,
            Expr::Tuple(tuple) => self.sum(&tuple.items)?,
            Expr::Map(map) => self.sum(&map.keys)? + self.sum(&map.values)?,
        })
    }

    fn attribute(&self, name: &str, attribute: &str) -> u64 {
        self.attributes.get(&(name.to_owned(), attribute.to_owned())).copied().unwrap_or(0)
    }

    fn sum(&self, items: &[Expr<'_>]) -> Result<u64, GrowthError> {
        items.iter().try_fold(1, |sum, item| within(sum + self.weigh(item)?))
    }

    fn arguments(&self, arguments: &[CallArg<'_>]) -> Result<u64, GrowthError> {
        arguments.iter().try_fold(1, |sum, argument| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => within(sum + self.weigh(value)?),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => unbounded("an argument list made at run time"),
        })
    }

    /// What a text weighs that is split here, if one is.
    fn split_text(&self, call: &Call<'_>) -> Result<Option<u64>, GrowthError> {
        match &call.expr {
            Expr::GetAttr(method) if method.name == "split" => self.weigh(&method.expr).map(Some),
            _ => Ok(None),
        }
    }

    /// A function that may be called, or a method: those of [`methods`](super::methods) have known bounds, and a loop hands its arguments back.
    fn call(&self, call: &Call<'_>) -> Result<u64, GrowthError> {
        let arguments = self.arguments(&call.args)?;
        match &call.expr {
            Expr::Var(name) if FUNCTIONS_REFUSED.contains(&name.id) => unbounded(name.id),
            Expr::Var(name) if name.id == "namespace" => unbounded("a namespace that is not at once set"),
            Expr::Var(_) => Ok(arguments),
            Expr::GetAttr(method) => {
                let value = self.weigh(&method.expr)?;
                match method.name {
                    "startswith" | "endswith" => Ok(0),
                    "strip" | "lstrip" | "rstrip" => Ok(value.max(1)),
                    // A list holds a value of 24 bytes for each piece.
                    "split" => within(value.max(1) * 24),
                    _ => Ok(arguments + value),
                }
            }
            _ => unbounded("calling the result of an expression"),
        }
    }

    fn filter(&self, filter: &Filter<'_>) -> Result<u64, GrowthError> {
        let Some(value) = &filter.expr else { return unbounded("a filter without a value") };
        let weight = self.weigh(value)?.max(1);
        let arguments = self.arguments(&filter.args)?;
        let factor = match filter.name {
            "abs" | "bool" | "count" | "float" | "int" | "length" | "round" => 0,
            "first" | "items" | "last" | "reject" | "rejectattr" | "reverse" | "safe" | "select" | "selectattr" | "string" | "trim" => 1,
            "d" | "default" => return within(weight.max(arguments)),
            // One scalar may become three.
            "capitalize" | "lower" | "title" | "upper" => 3,
            // A list holds a value of 24 bytes for each scalar or piece.
            "list" | "split" => 24,
            // An escape takes six bytes for one, a separator one more.
            "tojson" if filter.args.is_empty() => 8,
            "tojson" | "join" | "replace" if filter.args.iter().all(is_small) => 32,
            "tojson" | "join" | "replace" => return unbounded(format!("filter {} with anything but short literals", filter.name)),
            name => return unbounded(format!("filter {name}")),
        };
        // What weighs nothing is undefined: no input, and too short to matter.
        let is_input = self.weigh(value)? > 0;
        within(if is_input || factor < 2 { weight * factor } else { weight })
    }
}

/// A literal that a filter may repeat for each byte of its value.
fn is_small(argument: &CallArg<'_>) -> bool {
    let (CallArg::Pos(Expr::Const(literal)) | CallArg::Kwarg(_, Expr::Const(literal))) = argument else { return false };
    match literal.value.kind() {
        ValueKind::String => literal.value.as_str().is_some_and(|text| text.len() <= PIECE_BYTES_MAX),
        ValueKind::Number => i64::try_from(literal.value.clone()).is_ok_and(|width| (0..=4).contains(&width)),
        ValueKind::Bool => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(source: &str) -> String {
        check(source, &SyntaxConfig::default()).expect_err(source).to_string()
    }

    #[test]
    fn templates_of_the_field_are_accepted() {
        for source in [
            "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n' }}{% endif %}\
             {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}",
            "{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}\
             {% else %}{% set system = '' %}{% endif %}{% for message in messages %}{% set content = '<|start|>' + message['role'] + '\n\n' \
             + message['content'] | trim + '<|eot|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}\
             {% if message.tool_calls is defined %}{{ message.tool_calls[0].function.arguments | tojson(indent=4) }}{% endif %}{% endfor %}",
            "{% set ns = namespace(count=0, last='') %}{% for m in messages | selectattr('role', 'equalto', 'user') %}\
             {% set ns.count = ns.count + 1 %}{% set ns.last = m.content %}{% endfor %}{{ ns.count ~ ns.last }}",
            "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}{% endfor %}",
        ] {
            check(source, &SyntaxConfig::default()).expect(source);
        }
    }

    #[test]
    fn a_piece_of_a_text_weighs_as_the_text_and_the_list_of_pieces_more() {
        let chain = "{% for m in messages %}{% set c = m.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}\
                     {{ '<|im_start|>' + m.role + '\n<think>\n' + c.strip('\n') + '\n</think>\n\n' + m.content.lstrip('\n') }}{% endfor %}";
        check(chain, &SyntaxConfig::default()).expect(chain);
        for source in ["{% set a = messages.split('x').split('y') %}", "{{ (messages + messages).split('x') }}"] {
            assert!(refusal(source).contains("size of a value"), "{source}");
        }
    }

    #[test]
    fn what_doubles_or_grows_with_each_turn_is_refused() {
        let doubled = format!("{{% set s = 'x' %}}{}", "{% set s = s ~ s %}".repeat(40));
        assert!(refusal(&doubled).contains("size of a value"));
        let through_ifs = format!("{{% set s = 'x' %}}{}", "{% if 1 %}{% set s = s + s %}{% endif %}".repeat(40));
        assert!(refusal(&through_ifs).contains("size of a value"));
        let through_loops = format!("{}{{{{ a }}}}{}", "{% for a in [a, a] %}".repeat(40), "{% endfor %}".repeat(40));
        assert!(refusal(&through_loops).contains("size of a value"));
        let attribute =
            |value: &str| format!("{{% set n = namespace(s='x') %}}{{% for m in messages %}}{{% set n.s = {value} %}}{{% endfor %}}");
        for value in ["n.s ~ n.s", "n.s + 'y'", "[n.s]", "{'a': n.s}", "(n.s, 1)", "n.s | upper | tojson"] {
            let error = refusal(&attribute(value));
            assert!(error.contains("grows") || error.contains("size of"), "{value}: {error}");
        }
        assert!(refusal(&"{% set a = messages %}".repeat(300).replace("set a", "set b")).contains("all variables"));
    }

    #[test]
    fn what_has_no_known_bound_is_refused_by_name() {
        for (source, what) in [
            ("{{ 'x' * 1000000000000 }}", "multiplication"),
            ("{{ 2 ** 100 }}", "multiplication"),
            ("{{ 'x' | indent(1000000000000) }}", "filter indent"),
            ("{{ '%1000000000d' | format(1) }}", "filter format"),
            ("{{ messages | join(messages) }}", "filter join"),
            ("{{ messages | tojson(indent=1000000000) }}", "filter tojson"),
            ("{{ messages | map('indent', 1000000000) }}", "filter map"),
            ("{% for i in range(100000) %}{% endfor %}", "range"),
            ("{% set s %}{{ messages }}{% endset %}", "a set block"),
            ("{% macro m() %}{{ m() }}{% endmacro %}", "a macro"),
            ("{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}", "a recursive loop"),
            ("{% with a = 1 %}{% endwith %}", "with"),
            ("{% include 'chat' %}", "another template"),
            ("{% set n = namespace() %}{% set n.a = n %}", "as a value"),
            ("{% set n = namespace() %}{% set m = [namespace()] %}", "at once set"),
            ("{% set n = namespace() %}{% for n in messages %}{% endfor %}", "as something else"),
        ] {
            assert!(refusal(source).contains(what), "{source}: {}", refusal(source));
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_walked() {
        for source in [
            format!("{{{{ 1{} }}}}", "+1".repeat(20_000)),
            format!("{{{{ a{} }}}}", ".a".repeat(20_000)),
            format!("{{{{ a{} }}}}", "|trim".repeat(10_000)),
            format!("{{% if 1 %}}{}{{% endif %}}", "{%elif 1%}".repeat(6_000)),
        ] {
            let error = refusal(&source);
            assert!(error.contains("tokens in one tag") || error.contains("elif branches"), "{error}");
        }
        assert!(refusal(&"x".repeat(SOURCE_BYTES_MAX + 1)).contains("bytes of the template"));
        // The most that is accepted is walked on a test's small stack.
        let accepted =
            format!("{{% if 1 %}}{}{{% endif %}}{{{{ 1{} }}}}", "{%elif 1%}".repeat(NESTING_MAX), "+1".repeat(NESTING_MAX / 2 - 2));
        check(&accepted, &SyntaxConfig::default()).expect("as deep as allowed");
        let mut environment = minijinja::Environment::new();
        environment.add_template_owned("chat", accepted).expect("as deep as allowed");
    }
}
