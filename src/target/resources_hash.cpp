#include "base/hash.h"
#include "target/resources.h"

namespace tilewright {

const std::string& resources_hash() {
  static const std::string hash = [] {
    std::string all;
    for (const Resource& resource : resources()) all += sha256(resource.path) + sha256(resource.text);
    return sha256(all);
  }();
  return hash;
}

}  // namespace tilewright
