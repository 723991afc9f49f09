//! VGG-19 as data, tiles, and the plan: which kernels run on which buffers for a picture of a given size.

pub mod alone;
pub mod bands;
pub mod check;
mod convolution;
pub mod edge;
pub mod maps;
pub mod plan;
pub mod tiles;
pub mod vgg19;
