//! The Wasserstein loss, whose gradient is its derivative where its matrix root converges.

use impasto::weights::Conv;

use super::*;

/// Layers whose 64 activations relu1_2 are the positive parts of 64 different values around a position, so that in a noisy
/// picture they are independent, and their covariance has no small eigenvalue. The first convolution shifts the picture, the
/// second one shifts it on.
fn independent() -> Weights {
    let conv = |name: &str, inputs: usize, bias: f32| Conv {
        name: name.into(),
        inputs,
        outputs: 64,
        kernel: vec![0.0; 9 * inputs * 64],
        bias: vec![bias; 64],
    };
    // So bright that the first ReLU lets everything through.
    let (mut first, mut second) = (conv("conv1_1", 3, 160.0), conv("conv1_2", 64, -160.0));
    for at in 0..27 {
        first.kernel[at * 64 + at] = 1.0;
    }
    for output in 0..64 {
        // Of 5x5 places and 3 colours.
        let (place, colour) = (output / 3, output % 3);
        let [one, other] = [place / 5, place % 5].map(|shift: usize| (shift.min(2), shift.saturating_sub(2)));
        let [first_tap, second_tap] = [3 * one.0 + other.0, 3 * one.1 + other.1];
        second.kernel[(second_tap * 64 + first_tap * 3 + colour) * 64 + output] = 1.0;
    }
    Weights { convs: vec![first, second], mean: [128.0; 3], activation_unit: 32.0, source: "a test".into() }
}

/// Small eigenvalues do not reach their roots in twelve steps, and have another gradient than the steps' own: there is none
/// here. Nor is there a loss, or a gradient, for a picture that has the style's own statistics.
#[test]
fn where_the_root_converges_wassersteins_gradient_is_its_derivative() {
    let engine = Arc::new(Mutex::new(CpuEngine::<f64>::new()));
    let config = Config {
        size: Size::Native,
        style_size: Some(Size::Native),
        content_layers: Vec::new(),
        style_layers: vec![("relu1_2".parse().unwrap(), 1.0)],
        style_loss: StyleLoss::Wasserstein,
        tv_weight: 0.0,
        init: Init::Picture(picture(3, 30, 30)),
        ..Config::default()
    };
    let style = picture(2, 30, 30);
    let own: Vec<f64> =
        style.rgb.chunks(3).flat_map(|p| [p[0], p[1], p[2], 128.0]).map(|v| f64::from(v) - 128.0).collect();
    let step = step_of(&Shared(engine.clone()), &independent(), [style.clone(), style], config);
    let mut engine = engine.lock().unwrap();
    let program = engine.prepare(&step.recording).unwrap();
    let masks: Vec<_> = step.recording.commands.iter().filter_map(launch).flat_map(written).collect();
    let masks: Vec<_> = masks.into_iter().filter(|tensor| tensor.scalar == Scalar::U32).collect();
    let start = engine.values(step.image.buffer).unwrap().to_vec();
    let mut evaluate = |x: &[f64]| {
        engine.values_mut(step.image.buffer).unwrap().copy_from_slice(x);
        engine.run(program, 1).unwrap();
        let kinks = masks.iter().map(|tensor| engine.read_words(tensor.buffer).unwrap()).collect();
        let loss = engine.values(step.losses.buffer).unwrap().iter().sum();
        Point { loss, gradient: engine.values(step.d_image.buffer).unwrap().to_vec(), kinks }
    };
    finite_differences("wasserstein", LONG, &start, &directions(start.len(), 6), &mut evaluate);
    let norm = |point: &Point| point.gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let (some, none) = (evaluate(&start), evaluate(&own));
    let parts = [none.loss.abs() / some.loss, norm(&none) / norm(&some)];
    assert!(parts[0] <= 1e-9 && parts[1] <= 1e-6, "{parts:?} of the loss and the gradient are left");
}
