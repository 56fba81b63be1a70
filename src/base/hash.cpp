#include "base/hash.h"

#include <openssl/evp.h>

#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace tilewright {

namespace {

using Digest = unsigned char[EVP_MAX_MD_SIZE];

std::string hexadecimal(const Digest& digest, unsigned length) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += {digits[digest[i] >> 4], digits[digest[i] & 15]};
  return text;
}

}  // namespace

std::string sha256(const void* bytes, size_t count) {
  Digest digest;
  unsigned length = 0;
  ensure(EVP_Digest(bytes, count, digest, &length, EVP_sha256(), nullptr) == 1, "SHA-256 is available");
  return hexadecimal(digest, length);
}

std::string sha256_of_file(const std::filesystem::path& path, int64_t limit_bytes) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  bool good = context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  read_pieces(path, limit_bytes, [&](std::string_view piece) { good = good && EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1; });
  Digest digest;
  unsigned length = 0;
  ensure(good && EVP_DigestFinal_ex(context.get(), digest, &length) == 1, "SHA-256 is available");
  return hexadecimal(digest, length);
}

}  // namespace tilewright
