//! How many registers a thread of a shader takes, estimated from naga's intermediate representation.
//!
//! The estimate is the most 32-bit scalars that live at once: local variables from their first use to their last, and the
//! values of expressions from where they are computed to where they are last used. What lives at the start of a loop and
//! is used inside it lives to the loop's end. A driver's compiler does better where it shortens lives or shares addresses,
//! and worse where it unrolls a loop or computes ahead, so the figure is for comparing variants of a kernel, and for
//! telling 40 from 200.

use std::collections::HashMap;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{Block, Expression, Function, Handle, LocalVariable, Module, Statement, TypeInner};

/// Threads that hold a cooperative matrix together.
const SUBGROUP: u32 = 32;

/// Estimate for the entry point. Overrides must be resolved.
pub fn registers(module: &Module, info: &ModuleInfo) -> u32 {
    // A function comes after those that it calls.
    let mut called = HashMap::new();
    for (handle, function) in module.functions.iter() {
        let most = Lives::of(module, function, &info[handle], &called).most();
        called.insert(handle, most);
    }
    let entries = module.entry_points.iter().enumerate();
    entries
        .map(|(at, entry)| Lives::of(module, &entry.function, info.get_entry_point(at), &called).most())
        .max()
        .unwrap_or(0)
}

/// Something that takes registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Value {
    Expression(Handle<Expression>),
    Local(Handle<LocalVariable>),
}

/// When every value of a function lives, in steps of one expression or statement.
struct Lives<'a> {
    module: &'a Module,
    function: &'a Function,
    info: &'a FunctionInfo,
    called: &'a HashMap<Handle<Function>, u32>,
    /// First and last step.
    spans: HashMap<Value, (usize, usize)>,
    /// Steps at which another function is called, and what that takes.
    calls: Vec<(usize, u32)>,
    step: usize,
}

impl<'a> Lives<'a> {
    fn of(
        module: &'a Module,
        function: &'a Function,
        info: &'a FunctionInfo,
        called: &'a HashMap<Handle<Function>, u32>,
    ) -> Lives<'a> {
        let (spans, calls) = (HashMap::new(), Vec::new());
        let mut lives = Lives { module, function, info, called, spans, calls, step: 0 };
        for (local, variable) in function.local_variables.iter() {
            if variable.init.is_some() {
                lives.spans.insert(Value::Local(local), (0, 0));
            }
        }
        for (handle, expression) in function.expressions.iter() {
            if matches!(expression, Expression::FunctionArgument(_)) {
                lives.spans.insert(Value::Expression(handle), (0, 0));
            }
        }
        lives.block(&function.body);
        lives
    }

    fn most(&self) -> u32 {
        // What begins and what ends at each step.
        let mut changes = vec![0_i64; self.step + 2];
        for (value, (first, last)) in &self.spans {
            let scalars = i64::from(self.scalars(*value));
            changes[*first] += scalars;
            changes[*last] -= scalars;
        }
        for (step, scalars) in &self.calls {
            changes[*step] += i64::from(*scalars);
            changes[*step + 1] -= i64::from(*scalars);
        }
        let mut live = 0;
        let most = changes.iter().map(|change| {
            live += change;
            live
        });
        most.max().unwrap_or(0).try_into().unwrap_or(0)
    }

    fn scalars(&self, value: Value) -> u32 {
        let types = &self.module.types;
        let inner = match value {
            Value::Local(local) => &types[self.function.local_variables[local].ty].inner,
            Value::Expression(handle) => self.info[handle].ty.inner_with(types),
        };
        match inner {
            // An address in memory that is shared takes one; those of local variables are known when compiling.
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => 1,
            TypeInner::CooperativeMatrix { columns, rows, scalar, .. } => {
                let bytes = *columns as u32 * *rows as u32 * u32::from(scalar.width);
                bytes.div_ceil(4 * SUBGROUP)
            }
            other => other.size(self.module.to_ctx()).div_ceil(4),
        }
    }

    fn block(&mut self, block: &Block) {
        for statement in block.iter() {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Emit(range) => {
                for handle in range.clone() {
                    self.step += 1;
                    self.operands(handle);
                    if self.is_value(handle) {
                        self.touch(Value::Expression(handle));
                    }
                }
                return;
            }
            Statement::Block(block) => return self.block(block),
            Statement::If { condition, accept, reject } => {
                self.step += 1;
                self.uses(&[*condition]);
                self.block(accept);
                return self.block(reject);
            }
            Statement::Switch { selector, cases } => {
                self.step += 1;
                self.uses(&[*selector]);
                return cases.iter().for_each(|case| self.block(&case.body));
            }
            Statement::Loop { body, continuing, break_if } => return self.repeated(body, continuing, *break_if),
            _ => self.step += 1,
        }
        match statement {
            Statement::Store { pointer, value } => self.uses(&[*pointer, *value]),
            Statement::Return { value: Some(value) } => self.uses(&[*value]),
            Statement::Atomic { pointer, value, result, .. } => {
                self.uses(&[*pointer, *value]);
                self.defines(*result);
            }
            Statement::WorkGroupUniformLoad { pointer, result } => {
                self.uses(&[*pointer]);
                self.defines(Some(*result));
            }
            Statement::Call { function, arguments, result } => {
                self.uses(arguments);
                self.calls.push((self.step, self.called.get(function).copied().unwrap_or(0)));
                self.defines(*result);
            }
            Statement::SubgroupGather { argument, result, .. }
            | Statement::SubgroupCollectiveOperation { argument, result, .. } => {
                self.uses(&[*argument]);
                self.defines(Some(*result));
            }
            Statement::CooperativeStore { target, data } => self.uses(&[*target, data.pointer, data.stride]),
            // Control flow, barriers, and images, which no kernel has.
            _ => {}
        }
    }

    fn repeated(&mut self, body: &Block, continuing: &Block, break_if: Option<Handle<Expression>>) {
        let begin = self.step + 1;
        self.block(body);
        self.block(continuing);
        self.step += 1;
        self.uses(break_if.as_slice());
        let end = self.step;
        for (first, last) in self.spans.values_mut() {
            if *first < begin && *last >= begin {
                *last = end;
            }
        }
    }

    /// What an expression reads, when it is computed.
    fn operands(&mut self, handle: Handle<Expression>) {
        match &self.function.expressions[handle] {
            Expression::Compose { components, .. } => self.uses(components),
            Expression::Access { base, index } => self.uses(&[*base, *index]),
            Expression::AccessIndex { base, .. } => self.uses(&[*base]),
            Expression::Load { pointer } => self.uses(&[*pointer]),
            Expression::Splat { value: one, .. }
            | Expression::Swizzle { vector: one, .. }
            | Expression::Unary { expr: one, .. }
            | Expression::As { expr: one, .. }
            | Expression::Relational { argument: one, .. }
            | Expression::ArrayLength(one) => self.uses(&[*one]),
            Expression::Binary { left, right, .. } => self.uses(&[*left, *right]),
            Expression::Select { condition, accept, reject } => self.uses(&[*condition, *accept, *reject]),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                self.uses(&[*arg]);
                [arg1, arg2, arg3].into_iter().for_each(|more| self.uses(more.as_slice()));
            }
            Expression::CooperativeLoad { data, .. } => self.uses(&[data.pointer, data.stride]),
            Expression::CooperativeMultiplyAdd { a, b, c } => self.uses(&[*a, *b, *c]),
            // Constants, results of statements, and images.
            _ => {}
        }
    }

    fn uses(&mut self, handles: &[Handle<Expression>]) {
        for handle in handles {
            match &self.function.expressions[*handle] {
                Expression::LocalVariable(local) => self.touch(Value::Local(*local)),
                // A part of a value, or a value repeated, is where the value is.
                Expression::AccessIndex { base, .. } => self.uses(&[*base]),
                Expression::Swizzle { vector: base, .. } | Expression::Splat { value: base, .. } => self.uses(&[*base]),
                Expression::Access { base, .. } if self.local(*base) => self.uses(&[*base]),
                _ if self.is_value(*handle) => self.touch(Value::Expression(*handle)),
                _ => {}
            }
        }
    }

    fn defines(&mut self, result: Option<Handle<Expression>>) {
        if let Some(result) = result {
            self.touch(Value::Expression(result));
        }
    }

    /// Whether an expression takes registers of its own.
    fn is_value(&self, handle: Handle<Expression>) -> bool {
        match &self.function.expressions[handle] {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::Override(_)
            | Expression::ZeroValue(_)
            | Expression::GlobalVariable(_)
            | Expression::LocalVariable(_)
            | Expression::AccessIndex { .. }
            | Expression::Swizzle { .. }
            | Expression::Splat { .. } => false,
            Expression::Access { base, .. } => !self.local(*base),
            _ => true,
        }
    }

    /// Whether this is a local variable, or a part of one.
    fn local(&self, handle: Handle<Expression>) -> bool {
        match &self.function.expressions[handle] {
            Expression::LocalVariable(_) => true,
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.local(*base),
            _ => false,
        }
    }

    fn touch(&mut self, value: Value) {
        let step = self.step;
        self.spans.entry(value).or_insert((step, step)).1 = step;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::translate::resolved;
    use super::*;

    fn estimate(body: &str) -> u32 {
        let source = format!(
            "@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
             @group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;
             fn twice(x: vec4<f32>) -> vec4<f32> {{ return x + x; }}
             @compute @workgroup_size(1) fn main() {{ {body} }}"
        );
        let module = naga::front::wgsl::parse_str(&source).unwrap();
        let flags = naga::valid::ValidationFlags::all();
        let info = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty()).validate(&module).unwrap();
        let (module, info) = resolved(&module, &info, &[]).unwrap();
        registers(&module, &info)
    }

    #[test]
    fn what_lives_at_once_is_counted_and_what_is_over_is_not() {
        assert_eq!(estimate(""), 0);
        assert_eq!(estimate("output[0] = input[0];"), 4, "one vector on its way");
        assert_eq!(estimate("output[0] = input[0] + input[1];"), 8);
        let one_by_one = "output[0] = input[0]; output[1] = input[1]; output[2] = input[2];";
        assert_eq!(estimate(one_by_one), 4, "the first is over when the second begins");
        let all_first =
            "let a = input[0]; let b = input[1]; let c = input[2]; output[0] = a; output[1] = b; output[2] = c;";
        assert_eq!(estimate(all_first), 12);
    }

    #[test]
    fn what_a_loop_uses_lives_to_its_end() {
        let sum = |inside: &str| {
            format!(
                "var sum = vec4<f32>(); let factor = input[9];
                 for (var i = 0u; i < 8u; i++) {{ {inside} }} output[0] = sum;"
            )
        };
        // Sum 4, counter 1, address 1, the loaded vector 4.
        let plain = estimate(&sum("sum += input[i];"));
        assert_eq!(estimate(&sum("sum += input[i] * factor;")), plain + 4, "the factor stays");
        assert!((9..=14).contains(&plain), "{plain}");
        let eight = "var a: array<vec4<f32>, 8>; for (var i = 0u; i < 8u; i++) { a[i] = input[i]; } output[0] = a[3];";
        assert!((32..=44).contains(&estimate(eight)), "{}", estimate(eight));
    }

    #[test]
    fn a_function_adds_what_it_takes_to_what_its_caller_holds() {
        let held = "let a = input[0]; let b = input[1]; output[0] = twice(b); output[1] = a;";
        assert!(estimate(held) >= 12, "{}", estimate(held));
    }
}
