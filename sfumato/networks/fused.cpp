// silu(a group norm), with what stands between them in a residual block, in one pass over channels-last images.
//
//   z = gamma * (x + add - mean) / std + beta,    y = silu(z)   or   y = z
//
// x is (B, C, H, W) in channels_last order, float32 or bfloat16; add, gamma and beta are float32, (B, C) or (1, C).
// The forward pass reads x twice and writes y once; the backward pass computes z anew instead of keeping it. Every loop
// runs over the channels of one pixel, which lie side by side, so that the compiler turns it into vector instructions.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <bit>
#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;

constexpr int64_t PIXELS = 128;  // so many are summed in float32 before the sum goes to float64

inline float load(float x) { return x; }
inline float load(at::BFloat16 x) { return std::bit_cast<float>(uint32_t(x.x) << 16); }
inline void store(float& to, float x) { to = x; }
inline void store(at::BFloat16& to, float x) {  // to nearest, ties to even
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  to.x = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// 1 / (1 + exp(-z)), to about one unit in the last place of float32.
inline float sigmoid(float z) {
  float t = z * -1.44269504f;
  t = t > 126.f ? 126.f : (t < -126.f ? -126.f : t);
  const float whole = std::floor(t + 0.5f), f = t - whole;
  float p = 1.5403530e-4f;
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.f;
  const float power = std::bit_cast<float>((int32_t(whole) + 127) << 23);
  return z == z ? 1.f / (1.f + p * power) : z;
}

struct Shape {
  int64_t batch, channels, pixels, groups;
  int64_t per_group() const { return channels / groups; }
};

Shape shape_of(const Tensor& x, int64_t groups) {
  TORCH_CHECK(x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast), "x is (B, C, H, W) in channels_last order");
  TORCH_CHECK(groups > 0 && x.size(1) % groups == 0, "the groups divide the channels");
  return {x.size(0), x.size(1), x.size(2) * x.size(3), groups};
}

// The row of image n in a (B, C) or (1, C) tensor.
const float* row(const Tensor& t, int64_t n) { return t.const_data_ptr<float>() + (t.size(0) == 1 ? 0 : n * t.size(1)); }

// z = a x + b of one image, channel by channel, from its group's statistics.
void affine(const Shape& s, const float* add, const float* gamma, const float* beta, const float* mean,
            const float* rstd, float* a, float* b) {
  for (int64_t c = 0; c < s.channels; ++c) {
    const int64_t g = c / s.per_group();
    a[c] = gamma[c] * rstd[g];
    b[c] = beta[c] + ((add ? add[c] : 0.f) - mean[g]) * a[c];
  }
}

// Adds up per-channel sums over all pixels: `each` fills `count` rows of C sums for some pixels at a time.
template <class Each>
void sum_pixels(const Shape& s, int64_t count, std::vector<float>& part, double* total, Each each) {
  const int64_t n = count * s.channels;
  std::fill(total, total + n, 0.0);
  for (int64_t from = 0; from < s.pixels; from += PIXELS) {
    std::fill(part.begin(), part.begin() + n, 0.f);
    for (int64_t p = from; p < std::min(from + PIXELS, s.pixels); ++p) each(p, part.data());
    for (int64_t i = 0; i < n; ++i) total[i] += part[i];
  }
}

template <class T>
void forward(const Tensor& x, const Maybe& add, const Tensor& gamma, const Tensor& beta, const Shape& s, double eps,
             bool silu, Tensor& y, Tensor& mean, Tensor& rstd) {
  const int64_t C = s.channels;
  at::parallel_for(0, s.batch, 1, [&](int64_t from, int64_t to) {
    std::vector<float> part(2 * C), a(C), b(C);
    std::vector<double> total(2 * C);
    for (int64_t n = from; n < to; ++n) {
      const T* in = x.const_data_ptr<T>() + n * s.pixels * C;
      T* out = y.data_ptr<T>() + n * s.pixels * C;
      const float* plus = add ? row(*add, n) : nullptr;
      float *m = mean.data_ptr<float>() + n * s.groups, *r = rstd.data_ptr<float>() + n * s.groups;
      sum_pixels(s, 2, part, total.data(), [&](int64_t p, float* sums) {
        const T* at = in + p * C;
        float* __restrict sum = sums;
        float* __restrict square = sums + C;
        #pragma omp simd
        for (int64_t c = 0; c < C; ++c) {
          const float v = load(at[c]);
          sum[c] += v;
          square[c] += v * v;
        }
      });
      for (int64_t g = 0; g < s.groups; ++g) {
        double sum = 0, square = 0;
        for (int64_t c = g * s.per_group(); c < (g + 1) * s.per_group(); ++c) {
          const double k = plus ? plus[c] : 0;  // sums of x + k
          sum += total[c] + k * s.pixels;
          square += total[C + c] + 2 * k * total[c] + k * k * s.pixels;
        }
        const double count = double(s.per_group()) * s.pixels, average = sum / count;
        m[g] = float(average);
        r[g] = float(1 / std::sqrt(std::max(square / count - average * average, 0.0) + eps));
      }
      affine(s, plus, row(gamma, n), row(beta, n), m, r, a.data(), b.data());
      const float *scale = a.data(), *shift = b.data();
      for (int64_t p = 0; p < s.pixels; ++p) {
        const T* at = in + p * C;
        T* __restrict to_ = out + p * C;
        if (silu) {
          #pragma omp simd
          for (int64_t c = 0; c < C; ++c) {
            const float z = scale[c] * load(at[c]) + shift[c];
            store(to_[c], z * sigmoid(z));
          }
        } else {
          #pragma omp simd
          for (int64_t c = 0; c < C; ++c) store(to_[c], scale[c] * load(at[c]) + shift[c]);
        }
      }
    }
  });
}

// dy/dz * dy, where y = silu(z) or y = z.
template <bool silu>
inline float through(float z, float dy) {
  if (!silu) return dy;
  const float s = sigmoid(z);
  return dy * s * (1.f + z * (1.f - s));
}

template <class T, bool silu>
void backward(const Tensor& dy, const Tensor& x, const Maybe& add, const Tensor& gamma, const Tensor& beta,
              const Tensor& mean, const Tensor& rstd, const Shape& s, Tensor& dx, Tensor& dadd, Tensor& dgamma,
              Tensor& dbeta) {
  const int64_t C = s.channels;
  at::parallel_for(0, s.batch, 1, [&](int64_t from, int64_t to) {
    std::vector<float> part(3 * C), a(C), b(C), slope(C), offset(C);
    std::vector<double> total(3 * C);
    for (int64_t n = from; n < to; ++n) {
      const T* in = x.const_data_ptr<T>() + n * s.pixels * C;
      const T* up = dy.const_data_ptr<T>() + n * s.pixels * C;
      T* out = dx.data_ptr<T>() + n * s.pixels * C;
      const float *plus = add ? row(*add, n) : nullptr, *weight = row(gamma, n);
      const float *m = mean.const_data_ptr<float>() + n * s.groups, *r = rstd.const_data_ptr<float>() + n * s.groups;
      affine(s, plus, weight, row(beta, n), m, r, a.data(), b.data());
      const float *scale = a.data(), *shift = b.data();
      sum_pixels(s, 3, part, total.data(), [&](int64_t p, float* sums) {
        const T *at = in + p * C, *d = up + p * C;
        float* __restrict plain = sums;
        float* __restrict times_x = sums + C;
        float* __restrict xs = sums + 2 * C;
        #pragma omp simd
        for (int64_t c = 0; c < C; ++c) {
          const float v = load(at[c]), dz = through<silu>(scale[c] * v + shift[c], load(d[c]));
          plain[c] += dz;
          times_x[c] += dz * v;
          xs[c] += v;
        }
      });
      const double count = double(s.per_group()) * s.pixels;
      for (int64_t g = 0; g < s.groups; ++g) {
        double u = 0, v = 0;
        for (int64_t c = g * s.per_group(); c < (g + 1) * s.per_group(); ++c) {
          const double k = (plus ? plus[c] : 0) - m[g];  // the normalised x is r (x + k)
          const double with_normal = (total[C + c] + k * total[c]) * r[g];
          dgamma.data_ptr<float>()[n * C + c] = float(with_normal);
          dbeta.data_ptr<float>()[n * C + c] = float(total[c]);
          u += weight[c] * total[c];
          v += weight[c] * with_normal;
        }
        for (int64_t c = g * s.per_group(); c < (g + 1) * s.per_group(); ++c) {
          const double k = (plus ? plus[c] : 0) - m[g], per_x = r[g] * r[g] * v / count;
          const double constant = r[g] * u / count + per_x * k;
          slope[c] = float(per_x);
          offset[c] = float(constant);
          dadd.data_ptr<float>()[n * C + c] = float(scale[c] * total[c] - per_x * total[2 * C + c] - constant * s.pixels);
        }
      }
      const float *per_x = slope.data(), *constant = offset.data();
      for (int64_t p = 0; p < s.pixels; ++p) {
        const T *at = in + p * C, *d = up + p * C;
        T* __restrict to_ = out + p * C;
        #pragma omp simd
        for (int64_t c = 0; c < C; ++c) {
          const float v = load(at[c]), dz = through<silu>(scale[c] * v + shift[c], load(d[c]));
          store(to_[c], scale[c] * dz - per_x[c] * v - constant[c]);
        }
      }
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> norm_silu(const Tensor& x, const Maybe& add, const Tensor& gamma, const Tensor& beta,
                                             int64_t groups, double eps, bool silu) {
  const Shape s = shape_of(x, groups);
  Tensor y = at::empty_like(x), mean = at::empty({s.batch, groups}, x.options().dtype(at::kFloat));
  Tensor rstd = at::empty_like(mean);
  if (x.scalar_type() == at::kBFloat16)
    forward<at::BFloat16>(x, add, gamma, beta, s, eps, silu, y, mean, rstd);
  else
    forward<float>(x, add, gamma, beta, s, eps, silu, y, mean, rstd);
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> norm_silu_backward(const Tensor& dy_, const Tensor& x, const Maybe& add,
                                                              const Tensor& gamma, const Tensor& beta,
                                                              const Tensor& mean, const Tensor& rstd, int64_t groups,
                                                              bool silu) {
  const Shape s = shape_of(x, groups);
  const Tensor dy = dy_.contiguous(at::MemoryFormat::ChannelsLast);
  Tensor dx = at::empty_like(x), dadd = at::empty({s.batch, s.channels}, x.options().dtype(at::kFloat));
  Tensor dgamma = at::empty_like(dadd), dbeta = at::empty_like(dadd);
  auto run = [&]<class T>(T) {
    if (silu)
      backward<T, true>(dy, x, add, gamma, beta, mean, rstd, s, dx, dadd, dgamma, dbeta);
    else
      backward<T, false>(dy, x, add, gamma, beta, mean, rstd, s, dx, dadd, dgamma, dbeta);
  };
  if (x.scalar_type() == at::kBFloat16)
    run(at::BFloat16());
  else
    run(float());
  return {dx, dadd, dgamma, dbeta};
}

}  // namespace

TORCH_LIBRARY(sfumato, m) {
  m.def("norm_silu(Tensor x, Tensor? add, Tensor gamma, Tensor beta, int groups, float eps, bool silu) -> (Tensor, Tensor, Tensor)");
  m.def("norm_silu_backward(Tensor dy, Tensor x, Tensor? add, Tensor gamma, Tensor beta, Tensor mean, Tensor rstd, int groups, bool silu) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(sfumato, CPU, m) {
  m.impl("norm_silu", norm_silu);
  m.impl("norm_silu_backward", norm_silu_backward);
}
