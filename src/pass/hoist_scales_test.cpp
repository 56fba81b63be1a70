#include "pass/hoist_scales.h"

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "hoist_scales";
/// One rounding for a few.
constexpr Agreement close = {false, 1e-6};

/// %x: u8[N,2,4] times `s`, weights i8[2,2,1] times `t`, then `product` of %a and %w into %y.
std::string dequantised(const std::string& s, const std::string& t, const std::string& product, const std::string& constants = "") {
  return from_x("u8[N,2,4]", "const %q: i8[2,2,1] = {1, -2, 3, 4} const %s: " + s + " const %t: " + t + " " + constants +
                                 "%a0: f32[N,2,4] = cast(%x) mode=\"saturate\" to=dtype f32 ;\"\" %a: f32[N,2,4] = mul(%a0, %s) ;\"\" "
                                 "%w0: f32[2,2,1] = cast(%q) mode=\"saturate\" to=dtype f32 ;\"\" %w: f32[2,2,1] = mul(%t, %w0) ;\"\" " +
                                 product);
}

std::string hoisted(const std::string& scale, const std::string& rest, const std::string& constants = "") {
  return from_x("u8[N,2,4]",
                "const %q: i8[2,2,1] = {1, -2, 3, 4} const %c: " + scale + " " + constants +
                    "%a0: f32[N,2,4] = cast(%x) mode=\"saturate\" to=dtype f32 ;\"\" %w0: f32[2,2,1] = cast(%q) mode=\"saturate\" to=dtype f32 ;\"\" "
                    "%p: f32[N,2,4] = conv(%a0, %w0) ;\"\" " +
                    rest);
}

const std::string conv = "%y: f32[N,2,4] = conv(%a, %w) ;\"\"";

TEST(HoistScales, OneScaleAnOperand) {
  expect_pass(pass, dequantised("f32[] = {0.5}", "f32[] = {0.25}", conv), hoisted("f32[] = {0.125}", "%y: f32[N,2,4] = mul(%p, %c) ;\"\""), close);
}

TEST(HoistScales, AScaleForEachOutputChannel) {
  expect_pass(pass, dequantised("f32[] = {0.5}", "f32[2,1,1] = {0.25, 3}", conv), hoisted("f32[2,1] = {0.125, 1.5}", "%y: f32[N,2,4] = mul(%p, %c) ;\"\""),
              close);
}

TEST(HoistScales, TheBiasIsAddedBehindTheScale) {
  expect_pass(pass, dequantised("f32[] = {0.5}", "f32[] = {0.25}", "%y: f32[N,2,4] = conv(%a, %w, %b) ;\"\"", "const %b: f32[2] = {10, 20} "),
              hoisted("f32[] = {0.125}",
                      "%m: f32[N,2,4] = mul(%p, %c) ;\"\" %r: f32[2,1] = reshape(%b) dims=dims[\"2\", \"1\"] ;\"\" %y: f32[N,2,4] = add(%m, %r) ;\"\"",
                      "const %b: f32[2] = {10, 20} "),
              close);
}

TEST(HoistScales, WhatVariesOverTheSumStays) {
  expect_unchanged(pass, dequantised("f32[2,1] = {0.5, 1}", "f32[] = {0.25}", conv));    // input channels
  expect_unchanged(pass, dequantised("f32[] = {0.5}", "f32[1,2,1] = {0.25, 3}", conv));  // the weights' input channels
  expect_unchanged(pass, dequantised("f32[] = {0.5}", "f32[2,2,1] = {1, 2, 3, 4}", conv));
}

TEST(HoistScales, ScalesWhoseProductIsNoNormalNumberStay) {
  expect_unchanged(pass, dequantised("f32[] = {1e-30}", "f32[] = {1e-30}", conv));
  expect_unchanged(pass, dequantised("f32[] = {0}", "f32[] = {1}", conv));
}

TEST(HoistScales, RealOperandsStay) {
  expect_unchanged(pass, from_x("f32[N,2,4]",
                                "const %w: f32[2,2,1] = {1, 2, 3, 4} const %s: f32[] = {2} %a: f32[N,2,4] = mul(%x, %s) ;\"\" "
                                "%y: f32[N,2,4] = conv(%a, %w) ;\"\""));
}

}  // namespace
}  // namespace tilewright::pass_testing
