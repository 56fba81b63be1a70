#include "pass/apply_precision.h"
#include "pass/fold_affine.h"
#include "pass/fold_constants.h"
#include "pass/hoist_scales.h"
#include "pass/merge_products.h"
#include "pass/pass.h"
#include "pass/share_common.h"
#include "pass/simplify.h"
#include "pass/simplify_control.h"

namespace tilewright {
std::vector<GraphPass> graph_passes(const PassOptions& options) {
  return {
      {"hoist_scales", "products of dequantised operands sum integers, exactly, and are scaled once", hoist_scales},
      {"fold_constants", "computes what depends on constants only", fold_constants},
      {"simplify_control", "moves constants into bodies, takes branches that are known", simplify_control},
      {"fold_constants_again", "the same, for what the last pass made constant", fold_constants},
      {"simplify", "algebra that changes no bit: neutral elements, movements that join or do nothing", static_cast<void (*)(Graph&)>(simplify)},
      {"fold_affine", "scales and shifts after a convolution (batch norms) go into its weights", fold_affine},
      {"apply_precision", "rounds weights and operands of products to the policy's 16 bits",
       [=](Graph& graph) { apply_precision(graph, options.precision, options.precision_report); }},
      {"share_common", "computes equal nodes once", share_common},
      {"merge_products", "computes products of one operand as one where that is faster",
       [=](Graph& graph) { merge_products(graph, options.product_cost, options.merge_report); }},
  };
}

}  // namespace tilewright
