//! Follows a template through a conversation whose contents are not known.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Traced;
use super::expression::Expression;
use super::given::{Given, Guard};
use super::parse::Statement;
use super::value::{Text, TextPart, Value};

/// What a template may do until it is left to the engine.
const STEPS_MAX: usize = 300_000;
/// Bytes of a text, and items of a list.
pub const SIZE_MAX: usize = 1 << 20;
/// Macros in each other.
const CALLS_MAX: usize = 16;
/// Names that reach what is not followed.
const FOREIGN: [&str; 10] =
    ["dict", "lipsum", "cycler", "joiner", "debug", "self", "super", "caller", "varargs", "kwargs"];
const CONSTANTS: [&str; 6] = ["none", "None", "true", "True", "false", "False"];
const FUNCTIONS: [&str; 4] = ["raise_exception", "strftime_now", "namespace", "range"];

/// Whether the statements behind one are to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// Names with values, of the whole template or of one turn of a loop.
#[derive(Default)]
struct Scope {
    names: BTreeMap<String, Value>,
    /// Names that had a value in earlier turns of the loop.
    stale: BTreeSet<String>,
}

type Parameters = [(String, Option<Expression>)];

/// A rendering. What it does not know for certain is `None`.
pub struct Run<'a> {
    pub(super) given: &'a Given<'a>,
    generation: bool,
    messages: Rc<Vec<Value>>,
    scopes: Vec<Scope>,
    /// Inside a macro, names that are not followed there.
    hidden: BTreeSet<String>,
    macros: Vec<(&'a Parameters, &'a [Statement])>,
    calls: usize,
    output: Text,
    /// Texts that are captured, in each other.
    captures: usize,
    /// What the template marks.
    marks: Vec<[(usize, usize); 2]>,
    /// Whether what was done last is refused, whatever stands in the holes.
    pub(super) refused: bool,
    pub(super) guards: &'a mut BTreeSet<Guard>,
    steps: usize,
}

impl<'a> Run<'a> {
    /// What a template does with the first `count` messages.
    pub fn write(
        given: &'a Given<'a>,
        template: &'a [Statement],
        (count, generation): (usize, bool),
        guards: &'a mut BTreeSet<Guard>,
    ) -> Option<Traced> {
        let mut run = Run {
            given,
            generation,
            messages: Rc::new((0..count).map(Value::Message).collect()),
            scopes: vec![Scope::default()],
            hidden: BTreeSet::new(),
            macros: Vec::new(),
            calls: 0,
            output: Text::default(),
            captures: 0,
            marks: Vec::new(),
            refused: false,
            guards,
            steps: 0,
        };
        match run.all(template) {
            Some(_) => Some(Traced::Text(run.output, run.marks)),
            None => run.refused.then_some(Traced::Refused),
        }
    }

    fn step(&mut self) -> Option<()> {
        self.steps += 1;
        (self.steps <= STEPS_MAX && self.output.size() <= SIZE_MAX).then_some(())
    }

    fn all(&mut self, statements: &'a [Statement]) -> Option<Flow> {
        for statement in statements {
            let flow = self.statement(statement)?;
            if flow != Flow::On {
                return Some(flow);
            }
        }
        Some(Flow::On)
    }

    fn statement(&mut self, statement: &'a Statement) -> Option<Flow> {
        self.step()?;
        match statement {
            Statement::Data(text) => self.output.push_str(text),
            Statement::Print(expression) => {
                let value = self.value(expression)?;
                let text = self.printed(&value)?;
                self.output.push(&text);
            }
            Statement::If(branches, other) => {
                for (condition, body) in branches {
                    let value = self.value(condition)?;
                    if self.is_true(&value)? {
                        return self.all(body);
                    }
                }
                return self.all(other);
            }
            Statement::For { names, list, filter, body } => {
                self.repeat(names, list, filter.as_ref(), body)?;
            }
            Statement::Set(name, None, expression) => {
                let value = self.value(expression)?;
                self.set(name, value)?;
            }
            Statement::Set(name, Some(field), expression) => {
                let value = self.value(expression)?;
                let Value::Namespace(namespace) = self.name(name)? else { return None };
                (value.is_flat() || matches!(value, Value::List(_))).then_some(())?;
                namespace.borrow_mut().insert(field.clone(), value);
            }
            Statement::Capture(name, body) => {
                let (text, scope) = self.captured(Scope::default(), body)?;
                // Whether what is assigned there stays is not decided here.
                scope.names.is_empty().then_some(())?;
                self.set(name, Value::Text(text))?;
            }
            Statement::Macro(name, parameters, body) => {
                (self.scopes.len() == 1 && self.calls == 0).then_some(())?;
                self.macros.push((parameters, body));
                self.set(name, Value::Macro(self.macros.len() - 1))?;
            }
            Statement::Generation(body) => self.marked(body)?,
            Statement::Unknown => return None,
            Statement::Break => return Some(Flow::Break),
            Statement::Continue => return Some(Flow::Continue),
        }
        Some(Flow::On)
    }

    /// What stands between marks: it is written where it stands, and what is assigned there is gone
    /// behind it.
    fn marked(&mut self, body: &'a [Statement]) -> Option<()> {
        let here = |output: &Text| match output.0.last() {
            Some(TextPart::Fixed(text)) => (output.0.len() - 1, text.len()),
            _ => (output.0.len(), 0),
        };
        let begin = here(&self.output);
        self.scopes.push(Scope::default());
        let flow = self.all(body)?;
        let scope = self.scopes.pop()?;
        self.marks.push([begin, here(&self.output)]);
        (self.captures == 0 && flow == Flow::On && scope.names.is_empty()).then_some(())
    }

    fn set(&mut self, name: &str, value: Value) -> Option<()> {
        let free = !FOREIGN.contains(&name) && !CONSTANTS.contains(&name) && name != "loop";
        self.scopes.last_mut().filter(|_| free)?.names.insert(name.to_owned(), value);
        Some(())
    }

    /// An item of a list by its name, or its parts by theirs.
    fn bind(&mut self, names: &[String], item: &Value) -> Option<()> {
        match (names, item) {
            ([name], item) => self.set(name, item.clone()),
            ([first, second], Value::List(parts)) => match parts.as_slice() {
                [one, other] => {
                    self.set(first, one.clone())?;
                    self.set(second, other.clone())
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn repeat(
        &mut self,
        names: &'a [String],
        list: &'a Expression,
        filter: Option<&'a Expression>,
        body: &'a [Statement],
    ) -> Option<()> {
        let mut items = match self.value(list)? {
            Value::List(items) => items,
            Value::Opaque(place) => Rc::new(self.items(&place)?),
            _ => return None,
        };
        if let Some(filter) = filter {
            let mut kept = Vec::new();
            for item in items.iter() {
                self.scopes.push(Scope::default());
                self.bind(names, item)?;
                let value = self.value(filter)?;
                let keeps = self.is_true(&value)?;
                self.scopes.pop();
                kept.extend(keeps.then(|| item.clone()));
            }
            items = Rc::new(kept);
        }
        self.scopes.push(Scope::default());
        for (at, item) in items.iter().enumerate() {
            let scope = self.scopes.last_mut()?;
            scope.stale.extend(std::mem::take(&mut scope.names).into_keys());
            scope.names.insert("loop".to_owned(), Value::Loop(at, items.clone()));
            self.bind(names, item)?;
            if self.all(body)? == Flow::Break {
                break;
            }
        }
        self.scopes.pop();
        Some(())
    }

    /// What statements write, in a scope of their own; and what they assign there.
    fn captured(&mut self, scope: Scope, body: &'a [Statement]) -> Option<(Text, Scope)> {
        let before = std::mem::take(&mut self.output);
        self.scopes.push(scope);
        self.captures += 1;
        let flow = self.all(body)?;
        self.captures -= 1;
        let scope = self.scopes.pop()?;
        let text = std::mem::replace(&mut self.output, before);
        (flow == Flow::On).then_some((text, scope))
    }

    /// What a macro writes: it sees its arguments, and nothing else that has a value.
    pub(super) fn call_macro(&mut self, number: usize, arguments: &[Value]) -> Option<Value> {
        let (parameters, body) = *self.macros.get(number)?;
        if self.calls == CALLS_MAX || arguments.len() > parameters.len() {
            return None;
        }
        let mut scope = Scope::default();
        for (index, (name, missing)) in parameters.iter().enumerate() {
            let value = match (arguments.get(index), missing) {
                (Some(value), _) => value.clone(),
                (None, Some(missing)) if is_constant(missing) => self.value(missing)?,
                _ => return None,
            };
            scope.names.insert(name.clone(), value);
        }
        let scopes = std::mem::take(&mut self.scopes);
        let macros = |value: &Value| matches!(value, Value::Macro(_));
        let all = scopes.iter().flat_map(|scope| &scope.names);
        let hidden = all.filter(|(_, value)| !macros(value)).map(|(name, _)| name.clone());
        let hidden = hidden.chain(self.hidden.iter().cloned()).collect();
        let before = std::mem::replace(&mut self.hidden, hidden);
        self.calls += 1;
        let text = self.captured(scope, body);
        self.calls -= 1;
        self.hidden = before;
        self.scopes = scopes;
        text.map(|(text, _)| Value::Text(text))
    }

    /// The value that a name has.
    pub(super) fn name(&self, name: &str) -> Option<Value> {
        for scope in self.scopes.iter().rev() {
            if let Some(value) = scope.names.get(name) {
                return Some(value.clone());
            }
            // Whether a loop forgets what was assigned in an earlier turn is not decided here.
            if scope.stale.contains(name) {
                return None;
            }
        }
        if self.hidden.contains(name) || FOREIGN.contains(&name) {
            return None;
        }
        Some(match name {
            "none" | "None" => Value::None,
            "true" | "True" => Value::Truth(true),
            "false" | "False" => Value::Truth(false),
            "messages" => Value::List(self.messages.clone()),
            "tools" => Value::of(&self.given.tools),
            "add_generation_prompt" => Value::Truth(self.generation),
            name if self.given.args.contains_key(name) => Value::of(self.given.args.get(name)?),
            "documents" => Value::None,
            name => match self.given.special.get(name) {
                Some(token) => Value::known(token),
                None => FUNCTIONS
                    .iter()
                    .find(|function| **function == name)
                    .map_or(Value::Undefined, |function| Value::Function(function)),
            },
        })
    }

    /// The value of an expression.
    pub(super) fn value(&mut self, expression: &'a Expression) -> Option<Value> {
        self.step()?;
        let value = self.evaluated(expression)?;
        // What is large takes longer to be copied.
        self.steps += value.size() / 64;
        Some(value)
    }

    fn evaluated(&mut self, expression: &'a Expression) -> Option<Value> {
        Some(match expression {
            Expression::Unknown => return None,
            Expression::Text(text) => Value::known(text),
            Expression::Number(number) => Value::Number(*number),
            Expression::List(items) => {
                let items: Option<Vec<Value>> = items.iter().map(|it| self.value(it)).collect();
                Value::List(Rc::new(items.filter(|all| all.iter().all(Value::is_flat))?))
            }
            Expression::Name(name) => self.name(name)?,
            Expression::Field(of, name) => {
                let of = self.value(of)?;
                self.field(&of, name)?
            }
            Expression::Item(of, key) => {
                let (of, key) = (self.value(of)?, self.value(key)?);
                self.item(&of, &key)?
            }
            Expression::Slice(of, bounds) => self.slice(of, bounds)?,
            Expression::Call(name, arguments) => self.call(name, arguments)?,
            Expression::Method(of, name, arguments) => self.method(of, name, arguments)?,
            Expression::Filter(of, name, arguments) => self.filter(of, name, arguments)?,
            Expression::Test(of, name) => {
                let of = self.value(of)?;
                Value::Truth(self.test(&of, name)?)
            }
            Expression::Not(of) => {
                let of = self.value(of)?;
                Value::Truth(!self.is_true(&of)?)
            }
            Expression::Negative(of) => match self.value(of)? {
                Value::Number(number) => Value::Number(number.checked_neg()?),
                _ => return None,
            },
            Expression::And(left, right) => {
                let left = self.value(left)?;
                if self.is_true(&left)? { self.value(right)? } else { left }
            }
            Expression::Or(left, right) => {
                let left = self.value(left)?;
                if self.is_true(&left)? { left } else { self.value(right)? }
            }
            Expression::Choice(condition, then, other) => {
                let condition = self.value(condition)?;
                match (self.is_true(&condition)?, other) {
                    (true, _) => self.value(then)?,
                    (false, Some(other)) => self.value(other)?,
                    (false, None) => Value::Undefined,
                }
            }
            Expression::Binary(left, operator, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.binary(&left, operator, &right)?
            }
        })
    }
}

/// Whether an expression has the same value everywhere.
fn is_constant(expression: &Expression) -> bool {
    match expression {
        Expression::Text(_) | Expression::Number(_) => true,
        Expression::Name(name) => CONSTANTS.contains(&name.as_str()),
        _ => false,
    }
}
