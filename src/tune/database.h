#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "target/kernel_space.h"

struct sqlite3;

/// What was measured, kept in a SQLite file that several processes share; it survives a kill at any moment.
namespace tilewright::tune {

/// Where a measurement holds.
struct Place {
  std::string machine;   ///< fingerprint: see machine_fingerprint()
  std::string compiler;  ///< its first line of --version
  int space = space_version;
};

/// A kernel, its sizes ("batch=1 lines=56 line=56 n=64 k=576"), and what these do not tell (KernelSpace::form).
struct KernelKey {
  std::string signature, shape;
  std::string form = {};
  auto operator<=>(const KernelKey&) const = default;
};
KernelKey key_of(const KernelSpace& space);

struct Measurement {
  std::string config;
  enum class Status {
    good,
    wrong,   ///< breaks the precision promise
    failed,  ///< does not build or run
  } status = Status::good;
  double ratio = 0;    ///< its time by the default configuration's in the same rounds
  double seconds = 0;  ///< of a run, median
  double error = 0;    ///< relative RMS difference from the default's results
  int rounds = 0;
  std::vector<float> features = {};  ///< of the kernel with this configuration: see features()
};

/// What was decided for a kernel.
struct Choice {
  std::string config;
  double ratio = 1;         ///< expected time by the default configuration's
  double thoroughness = 0;  ///< share of the space that was considered: below 1 a longer search may find more
};

/// What was decided for a model as a whole.
struct ModelChoice {
  bool tuned = true;     ///< whether the kernels' choices are used at all
  std::string disabled;  ///< passes switched off, separated by commas
  double ratio = 1;      ///< time by the untuned model's, end to end
};

struct Row {
  Place place;
  KernelKey kernel;
  Measurement measurement;
};
struct ChoiceRow {
  Place place;
  KernelKey kernel;
  Choice choice;
};

struct ModelRow {
  Place place;
  std::string model;
  ModelChoice choice;
};

class Database {
 public:
  enum class Access { read, write };
  /// Opens; for writing, creates too. Throws environment (cannot be opened, damaged, another program's), unsupported (made by a later version).
  explicit Database(const std::filesystem::path& file, Access access = Access::write);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// All or none of them; what was measured before of a configuration is replaced.
  void add(const Place& place, const KernelKey& kernel, const std::vector<Measurement>& measurements);
  std::vector<Measurement> measurements(const Place& place, const KernelKey& kernel) const;
  /// A more thorough choice stays.
  void choose(const Place& place, const KernelKey& kernel, const Choice& choice);
  std::optional<Choice> choice(const Place& place, const KernelKey& kernel) const;
  /// Of the kernel itself, else of the nearest shape with the same signature, at most `nearest` doublings away in all sizes together.
  std::optional<Choice> near_choice(const Place& place, const KernelKey& kernel, double nearest = 2) const;
  void choose_model(const Place& place, const std::string& model, const ModelChoice& choice);
  std::optional<ModelChoice> model_choice(const Place& place, const std::string& model) const;

  /// Everything, for learners, `show` and export.
  std::vector<Row> all() const;
  /// Of the place's machine and space, by any compiler.
  std::vector<Row> of_machine(const Place& place) const;
  std::vector<ChoiceRow> choices() const;
  /// Where something was measured.
  std::vector<Place> places() const;
  std::vector<ModelRow> models() const;

  /// Lines of JSON, one a measurement or a decision, after a line that names the format.
  void export_to(const std::filesystem::path& file) const;
  /// Adds what `file` has and this has not; of two choices the more thorough one stays. Throws invalid_input and adds nothing when a
  /// line cannot be read or says what cannot be. Returns the number of measurements read.
  int64_t import_from(const std::filesystem::path& file);
  /// The same from another database.
  int64_t merge(const Database& other);
  /// Drops what is of another space version, or of a machine whose fingerprint begins with none of `keep`. Returns the number of measurements dropped.
  int64_t prune(const std::vector<std::string>& keep);

 private:
  class Statement;
  class Transaction;
  int64_t add_place(const Place& place);
  int64_t add_kernel(const KernelKey& kernel);
  void put(const Row& row, bool replace);
  void put(const ChoiceRow& row);
  void put(const ModelRow& row, bool replace);
  int64_t add_all(const std::vector<Row>& rows, const std::vector<ChoiceRow>& choices, const std::vector<ModelRow>& models);
  std::vector<Row> rows(const char* condition, const Place& place) const;

  sqlite3* handle_ = nullptr;
};

/// Throws invalid_input: a configuration that does not parse, a number that is none, features of another version.
void check(const Row& row);

/// $TILEWRIGHT_TUNING, else tuning.sqlite in the folder that holds the build cache.
std::filesystem::path default_database();

/// What a measurement depends on beside the kernel: the machine (describe_machine()), the target, on CPUs threads used.
std::string machine_fingerprint(const std::string& machine, const Target& target, int threads);

/// Doublings between two shapes, summed over their sizes; nullopt when they have other sizes.
std::optional<double> distance(const std::string& shape, const std::string& other);

}  // namespace tilewright::tune
