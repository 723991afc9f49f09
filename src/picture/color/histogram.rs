//! One picture's histogram for another.

use super::super::Picture;

/// A result whose every channel has the histogram that the same channel of all `targets` together has.
///
/// A value that a share p of the channel lies below, counting half of those equal to it, becomes the p-quantile of the
/// targets (linear between their sorted values, the k-th of m at `(k + ½) / m`): what equal values become is equal, order
/// stays, and a flat channel becomes the median. Nothing is quantised.
pub fn match_histogram(result: Picture, targets: &[&Picture]) -> Picture {
    let Picture { width, height, mut rgb } = result;
    for channel in 0..3 {
        let of = |picture: &Picture| picture.rgb.iter().skip(channel).step_by(3).copied().collect::<Vec<_>>();
        let mut goal: Vec<f32> = targets.iter().flat_map(|target| of(target)).collect();
        goal.sort_unstable_by(f32::total_cmp);
        if goal.is_empty() {
            continue;
        }
        let mut order: Vec<u32> = (0..(rgb.len() / 3) as u32).collect();
        order.sort_unstable_by(|a, b| f32::total_cmp(&rgb[*a as usize * 3 + channel], &rgb[*b as usize * 3 + channel]));
        let mut below = 0;
        while let Some(&first) = order.get(below) {
            let value = rgb[first as usize * 3 + channel];
            let equal = order[below..].iter().take_while(|at| rgb[**at as usize * 3 + channel] == value).count().max(1);
            let share = (below as f64 + equal as f64 / 2.0) / order.len() as f64;
            for at in &order[below..below + equal] {
                rgb[*at as usize * 3 + channel] = quantile(&goal, share);
            }
            below += equal;
        }
    }
    Picture { width, height, rgb }
}

fn quantile(sorted: &[f32], share: f64) -> f32 {
    let place = (share * sorted.len() as f64 - 0.5).clamp(0.0, (sorted.len() - 1) as f64);
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    (f64::from(low) + (f64::from(high) - f64::from(low)) * place.fract()) as f32
}
