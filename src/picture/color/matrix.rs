//! Matrices of three rows and columns, in double precision.

pub(super) type Matrix = [[f64; 3]; 3];

pub(super) const IDENTITY: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

pub(super) fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

pub(super) fn apply(a: &Matrix, x: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| (0..3).map(|k| a[i][k] * x[k]).sum())
}

/// The inverse, by cofactors. Of a matrix that has none, infinities.
pub(super) fn inverse(a: &Matrix) -> Matrix {
    let minor = |i: usize, j: usize| {
        let [r, s, c, d] = [(i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3];
        a[r][c] * a[s][d] - a[r][d] * a[s][c]
    };
    let determinant: f64 = (0..3).map(|j| a[0][j] * minor(0, j)).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| minor(j, i) / determinant))
}

/// `V f(Λ) Vᵀ` of a symmetric matrix `V Λ Vᵀ`.
pub(super) fn spectral(a: &Matrix, f: impl Fn(f64) -> f64) -> Matrix {
    let (values, vectors) = eigen(a);
    let values = values.map(f);
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| vectors[i][k] * values[k] * vectors[j][k]).sum()))
}

/// Eigenvalues, and eigenvectors as columns, of a symmetric matrix: Jacobi's rotations.
fn eigen(a: &Matrix) -> ([f64; 3], Matrix) {
    let (mut a, mut vectors) = (*a, IDENTITY);
    // Convergence is quadratic: a handful of sweeps reach the last bit.
    for _ in 0..20 {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if a[p][q] == 0.0 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
            let cosine = 1.0 / tangent.hypot(1.0);
            let sine = tangent * cosine;
            let turn = |row: &mut [f64; 3]| {
                (row[p], row[q]) = (cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]);
            };
            a.iter_mut().for_each(turn);
            let [above, below] = [a[p], a[q]];
            for k in 0..3 {
                (a[p][k], a[q][k]) = (cosine * above[k] - sine * below[k], sine * above[k] + cosine * below[k]);
            }
            // What rounding has left of it would keep the rotations going.
            (a[p][q], a[q][p]) = (0.0, 0.0);
            vectors.iter_mut().for_each(turn);
        }
    }
    ([a[0][0], a[1][1], a[2][2]], vectors)
}

/// The lower triangular root `L Lᵀ = a` of a matrix without negative eigenvalues. Where there is nothing left to take a
/// root of, a column is zero.
pub(super) fn cholesky(a: &Matrix) -> Matrix {
    let mut root = [[0.0; 3]; 3];
    let nothing = 1e-12 * (a[0][0] + a[1][1] + a[2][2]);
    for j in 0..3 {
        let left = a[j][j] - (0..j).map(|k| root[j][k] * root[j][k]).sum::<f64>();
        if left <= nothing {
            continue;
        }
        root[j][j] = left.sqrt();
        for i in j + 1..3 {
            let sum: f64 = (0..j).map(|k| root[i][k] * root[j][k]).sum();
            root[i][j] = (a[i][j] - sum) / root[j][j];
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &Matrix, b: &Matrix) {
        let scale = b.iter().flatten().fold(1.0_f64, |most, v| most.max(v.abs()));
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!((a - b).abs() <= 1e-12 * scale, "{a} is not {b}");
        }
    }

    fn symmetric(entries: [f64; 6]) -> Matrix {
        let [a, b, c, d, e, f] = entries;
        [[a, b, c], [b, d, e], [c, e, f]]
    }

    #[test]
    fn roots_squared_are_the_matrix_and_the_inverse_undoes_it() {
        for entries in [
            [4.0, 1.0, 0.5, 3.0, -0.25, 2.0],
            [900.0, 890.0, 880.0, 910.0, 870.0, 940.0],
            [1.0, 0.0, 0.0, 1.0, 0.0, 1.0],
            [1e-6, 0.0, 0.0, 5.0, 0.0, 1e6],
        ] {
            let a = symmetric(entries);
            let root = spectral(&a, f64::sqrt);
            close(&product(&root, &root), &a);
            let lower = cholesky(&a);
            let transposed = std::array::from_fn(|i| std::array::from_fn(|j| lower[j][i]));
            close(&product(&lower, &transposed), &a);
            close(&product(&inverse(&a), &a), &IDENTITY);
        }
    }

    #[test]
    fn a_flat_direction_has_a_root_of_nothing() {
        let grey = [[7.0; 3]; 3];
        let lower = cholesky(&grey);
        close(&lower, &[[7f64.sqrt(), 0.0, 0.0], [7f64.sqrt(), 0.0, 0.0], [7f64.sqrt(), 0.0, 0.0]]);
        assert_eq!(cholesky(&[[0.0; 3]; 3]), [[0.0; 3]; 3]);
        let root = spectral(&grey, |value| value.max(0.0).sqrt());
        close(&product(&root, &root), &grey);
    }
}
