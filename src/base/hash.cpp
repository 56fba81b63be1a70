#include "base/hash.h"

#include <openssl/evp.h>

#include "base/error.h"

namespace tilewright {

std::string sha256(const void* bytes, size_t count) {
  unsigned char digest[32];
  unsigned length = 0;
  ensure(EVP_Digest(bytes, count, digest, &length, EVP_sha256(), nullptr) == 1 && length == 32, "SHA-256 is available");
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest) text += {digits[byte >> 4], digits[byte & 15]};
  return text;
}

}  // namespace tilewright
