#include "tune/database.h"

#include <sqlite3.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "target/build_cache.h"

namespace tilewright::tune {
namespace {

/// Tables of format 1. `place` rows say where measurements hold.
const char* const schema = R"(
create table if not exists places(id integer primary key, machine text not null, compiler text not null, space integer not null, unique(machine, compiler, space));
create table if not exists kernels(id integer primary key, signature text not null, shape text not null, form text not null, unique(signature, shape, form));
create table if not exists measurements(place integer not null, kernel integer not null, config text not null, status integer not null, ratio real not null,
  seconds real not null, error real not null, rounds integer not null, features blob not null, primary key(place, kernel, config)) without rowid;
create table if not exists choices(place integer not null, kernel integer not null, config text not null, ratio real not null, thoroughness real not null,
  primary key(place, kernel)) without rowid;
create table if not exists models(place integer not null, model text not null, tuned integer not null, disabled text not null, ratio real not null,
  primary key(place, model)) without rowid;
)";
constexpr int format = 1;
/// "tile" as a number: whose file it is.
constexpr int application = 0x74696c65;
/// Milliseconds that a writer waits for others.
constexpr int patience = 20000;

std::map<std::string, double> sizes_of(const std::string& shape) {
  std::map<std::string, double> sizes;
  std::istringstream words(shape);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    if (equals != std::string::npos) sizes[word.substr(0, equals)] = std::strtod(word.c_str() + equals + 1, nullptr);
  }
  return sizes;
}

nlohmann::json to_json(const Place& place, const KernelKey& kernel) {
  return {{"machine", place.machine},      {"compiler", place.compiler}, {"space", place.space},
          {"signature", kernel.signature}, {"shape", kernel.shape},      {"form", kernel.form}};
}

}  // namespace

/// A prepared statement whose `?` take values in order.
class Database::Statement {
 public:
  Statement(sqlite3* handle, const char* text) : handle_(handle) { check(sqlite3_prepare_v2(handle, text, -1, &statement_, nullptr)); }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(const std::string& value) {
    check(sqlite3_bind_text(statement_, ++bound_, value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT));
    return *this;
  }
  Statement& bind(int64_t value) {
    check(sqlite3_bind_int64(statement_, ++bound_, value));
    return *this;
  }
  Statement& bind(const std::vector<float>& values) {
    check(sqlite3_bind_blob(statement_, ++bound_, values.empty() ? "" : static_cast<const void*>(values.data()),
                            static_cast<int>(values.size() * sizeof(float)), SQLITE_TRANSIENT));
    return *this;
  }
  Statement& bind(int value) { return bind(int64_t{value}); }
  Statement& bind(double value) {
    check(sqlite3_bind_double(statement_, ++bound_, value));
    return *this;
  }
  /// Whether there is a (next) row.
  bool step() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_ROW && result != SQLITE_DONE) check(result);
    return result == SQLITE_ROW;
  }
  void run() {
    while (step()) {
    }
  }
  std::string text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return bytes != nullptr ? bytes : "";
  }
  std::vector<float> floats(int column) const {
    std::vector<float> values(static_cast<size_t>(sqlite3_column_bytes(statement_, column)) / sizeof(float));
    if (!values.empty()) std::memcpy(values.data(), sqlite3_column_blob(statement_, column), values.size() * sizeof(float));
    return values;
  }
  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  double real(int column) const { return sqlite3_column_double(statement_, column); }

 private:
  void check(int result) const {
    if (result != SQLITE_OK) fail(ErrorKind::environment, "the tuning database: {}", sqlite3_errmsg(handle_));
  }
  sqlite3* handle_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

/// Everything until commit(), or nothing.
class Database::Transaction {
 public:
  explicit Transaction(sqlite3* handle) : handle_(handle) { Statement(handle, "begin immediate").run(); }
  ~Transaction() {
    if (!committed_) sqlite3_exec(handle_, "rollback", nullptr, nullptr, nullptr);
  }
  void commit() {
    Statement(handle_, "commit").run();
    committed_ = true;
  }

 private:
  sqlite3* handle_;
  bool committed_ = false;
};

Database::Database(const std::filesystem::path& file, Access access) {
  std::error_code failure;
  const bool writes = access == Access::write;
  if (!writes && !std::filesystem::exists(file, failure))
    fail(ErrorKind::environment, "there is no tuning database '{}'; `tilewright tune MODEL` makes one", file.string());
  if (writes && file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), failure);
  const int result = sqlite3_open_v2(file.c_str(), &handle_, writes ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY, nullptr);
  try {
    if (result != SQLITE_OK) fail(ErrorKind::environment, "cannot open the tuning database '{}': {}", file.string(), sqlite3_errmsg(handle_));
    sqlite3_busy_timeout(handle_, patience);
    const auto number = [&](const char* pragma) {
      Statement statement(handle_, pragma);
      statement.step();
      return statement.integer(0);
    };
    const int64_t owner = number("pragma application_id"), found = number("pragma user_version");
    if (owner != application && number("select count(*) from sqlite_master") > 0)
      fail(ErrorKind::environment, "'{}' is a database, but no tuning database of tilewright", file.string());
    if (found > format)
      fail(ErrorKind::unsupported, "the tuning database '{}' was made by a later version of tilewright (format {}, this one reads {})", file.string(), found,
           format);
    if (!writes && found < format) fail(ErrorKind::environment, "the tuning database '{}' is empty", file.string());
    if (!writes) return;
    Statement(handle_, "pragma journal_mode=wal").run();
    Statement(handle_, "pragma synchronous=normal").run();
    if (found == format) return;
    Transaction transaction(handle_);
    if (sqlite3_exec(handle_, schema, nullptr, nullptr, nullptr) != SQLITE_OK)
      fail(ErrorKind::environment, "cannot write the tuning database '{}': {}", file.string(), sqlite3_errmsg(handle_));
    Statement(handle_, fmt::format("pragma application_id={}", application).c_str()).run();
    Statement(handle_, fmt::format("pragma user_version={}", format).c_str()).run();
    transaction.commit();
  } catch (...) {
    sqlite3_close(handle_);
    throw;
  }
}

Database::~Database() { sqlite3_close(handle_); }

int64_t Database::add_place(const Place& place) {
  Statement(handle_, "insert or ignore into places(machine, compiler, space) values(?, ?, ?)").bind(place.machine).bind(place.compiler).bind(place.space).run();
  Statement find(handle_, "select id from places where machine=? and compiler=? and space=?");
  find.bind(place.machine).bind(place.compiler).bind(place.space).step();
  return find.integer(0);
}

int64_t Database::add_kernel(const KernelKey& kernel) {
  Statement(handle_, "insert or ignore into kernels(signature, shape, form) values(?, ?, ?)").bind(kernel.signature).bind(kernel.shape).bind(kernel.form).run();
  Statement find(handle_, "select id from kernels where signature=? and shape=? and form=?");
  find.bind(kernel.signature).bind(kernel.shape).bind(kernel.form).step();
  return find.integer(0);
}

void Database::put(const Row& row, bool replace) {
  const Measurement& m = row.measurement;
  Statement(handle_, replace ? "insert or replace into measurements values(?, ?, ?, ?, ?, ?, ?, ?, ?)"
                             : "insert or ignore into measurements values(?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(add_place(row.place))
      .bind(add_kernel(row.kernel))
      .bind(m.config)
      .bind(static_cast<int>(m.status))
      .bind(m.ratio)
      .bind(m.seconds)
      .bind(m.error)
      .bind(m.rounds)
      .bind(m.features)
      .run();
}

void Database::put(const ChoiceRow& row) {
  const int64_t place = add_place(row.place), kernel = add_kernel(row.kernel);
  Statement(handle_,
            "insert into choices values(?, ?, ?, ?, ?) on conflict(place, kernel) do update set config=excluded.config, ratio=excluded.ratio, "
            "thoroughness=excluded.thoroughness where excluded.thoroughness>=thoroughness")
      .bind(place)
      .bind(kernel)
      .bind(row.choice.config)
      .bind(row.choice.ratio)
      .bind(row.choice.thoroughness)
      .run();
}

void Database::put(const ModelRow& row, bool replace) {
  Statement(handle_, replace ? "insert or replace into models values(?, ?, ?, ?, ?)" : "insert or ignore into models values(?, ?, ?, ?, ?)")
      .bind(add_place(row.place))
      .bind(row.model)
      .bind(row.choice.tuned ? 1 : 0)
      .bind(row.choice.disabled)
      .bind(row.choice.ratio)
      .run();
}

void Database::add(const Place& place, const KernelKey& kernel, const std::vector<Measurement>& measurements) {
  Transaction transaction(handle_);
  for (const Measurement& measurement : measurements) put(Row{place, kernel, measurement}, true);
  transaction.commit();
}

std::vector<Measurement> Database::measurements(const Place& place, const KernelKey& kernel) const {
  Statement find(handle_,
                 "select config, status, ratio, seconds, error, rounds, features from measurements join places on place=places.id join kernels on "
                 "kernel=kernels.id where machine=? and compiler=? and space=? and signature=? and shape=? and form=? order by ratio");
  find.bind(place.machine).bind(place.compiler).bind(place.space).bind(kernel.signature).bind(kernel.shape).bind(kernel.form);
  std::vector<Measurement> all;
  while (find.step())
    all.push_back({find.text(0), static_cast<Measurement::Status>(find.integer(1)), find.real(2), find.real(3), find.real(4), static_cast<int>(find.integer(5)),
                   find.floats(6)});
  return all;
}

void Database::choose(const Place& place, const KernelKey& kernel, const Choice& choice) {
  Transaction transaction(handle_);
  put(ChoiceRow{place, kernel, choice});
  transaction.commit();
}

std::optional<Choice> Database::choice(const Place& place, const KernelKey& kernel) const {
  Statement find(handle_,
                 "select config, ratio, thoroughness from choices join places on place=places.id join kernels on kernel=kernels.id where machine=? and "
                 "compiler=? and space=? and signature=? and shape=? and form=?");
  find.bind(place.machine).bind(place.compiler).bind(place.space).bind(kernel.signature).bind(kernel.shape).bind(kernel.form);
  if (!find.step()) return std::nullopt;
  return Choice{find.text(0), find.real(1), find.real(2)};
}

std::optional<Choice> Database::near_choice(const Place& place, const KernelKey& kernel, double nearest) const {
  if (std::optional<Choice> exact = choice(place, kernel)) return exact;
  Statement find(handle_,
                 "select shape, config, ratio from choices join places on place=places.id join kernels on kernel=kernels.id "
                 "where machine=? and compiler=? and space=? and signature=? order by shape, form");
  find.bind(place.machine).bind(place.compiler).bind(place.space).bind(kernel.signature);
  std::optional<Choice> best;
  while (find.step()) {
    const std::optional<double> apart = distance(find.text(0), kernel.shape);
    if (!apart || *apart > nearest || (best && *apart >= nearest)) continue;
    nearest = *apart;
    best = Choice{find.text(1), find.real(2), 0};
  }
  return best;
}

void Database::choose_model(const Place& place, const std::string& model, const ModelChoice& choice) {
  Transaction transaction(handle_);
  put(ModelRow{place, model, choice}, true);
  transaction.commit();
}

std::optional<ModelChoice> Database::model_choice(const Place& place, const std::string& model) const {
  Statement find(handle_, "select tuned, disabled, ratio from models join places on place=places.id where machine=? and compiler=? and space=? and model=?");
  if (!find.bind(place.machine).bind(place.compiler).bind(place.space).bind(model).step()) return std::nullopt;
  return ModelChoice{find.integer(0) != 0, find.text(1), find.real(2)};
}

std::vector<Row> Database::rows(const char* condition, const Place& place) const {
  Statement find(handle_, fmt::format("select machine, compiler, space, signature, shape, form, config, status, ratio, seconds, error, rounds, features from "
                                      "measurements join places on place=places.id join kernels on kernel=kernels.id where {} order by machine, signature, "
                                      "shape, form, ratio",
                                      condition)
                              .c_str());
  find.bind(place.machine).bind(place.space);
  std::vector<Row> rows;
  while (find.step())
    rows.push_back({{find.text(0), find.text(1), static_cast<int>(find.integer(2))},
                    {find.text(3), find.text(4), find.text(5)},
                    {find.text(6), static_cast<Measurement::Status>(find.integer(7)), find.real(8), find.real(9), find.real(10),
                     static_cast<int>(find.integer(11)), find.floats(12)}});
  return rows;
}

std::vector<Row> Database::all() const { return rows("?=? or 1", {}); }
std::vector<Row> Database::of_machine(const Place& place) const { return rows("machine=? and space=?", place); }

std::vector<ChoiceRow> Database::choices() const {
  Statement find(
      handle_,
      "select machine, compiler, space, signature, shape, form, config, ratio, thoroughness from choices join places on place=places.id join kernels "
      "on kernel=kernels.id order by machine, signature, shape, form");
  std::vector<ChoiceRow> rows;
  while (find.step())
    rows.push_back({{find.text(0), find.text(1), static_cast<int>(find.integer(2))},
                    {find.text(3), find.text(4), find.text(5)},
                    {find.text(6), find.real(7), find.real(8)}});
  return rows;
}

std::vector<Place> Database::places() const {
  Statement find(handle_, "select machine, compiler, space from places order by machine, compiler");
  std::vector<Place> all;
  while (find.step()) all.push_back({find.text(0), find.text(1), static_cast<int>(find.integer(2))});
  return all;
}

std::vector<ModelRow> Database::models() const {
  Statement find(handle_, "select machine, compiler, space, model, tuned, disabled, ratio from models join places on place=places.id order by machine, model");
  std::vector<ModelRow> rows;
  while (find.step())
    rows.push_back({{find.text(0), find.text(1), static_cast<int>(find.integer(2))}, find.text(3), {find.integer(4) != 0, find.text(5), find.real(6)}});
  return rows;
}

void Database::export_to(const std::filesystem::path& file) const {
  FileWriter writer(file);
  const auto write = [&](const nlohmann::json& json) {
    const std::string line = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    writer.write(line.data(), line.size());
  };
  write({{"tilewright tuning", format}});
  for (const Row& row : all()) {
    nlohmann::json json = to_json(row.place, row.kernel);
    const Measurement& m = row.measurement;
    // JSON has no infinity.
    json.update({{"config", m.config},
                 {"status", static_cast<int>(m.status)},
                 {"ratio", m.ratio},
                 {"seconds", m.seconds},
                 {"error", std::isfinite(m.error) ? m.error : 1e30},
                 {"rounds", m.rounds},
                 {"features", m.features}});
    write(json);
  }
  for (const ChoiceRow& row : choices()) {
    nlohmann::json json = to_json(row.place, row.kernel);
    json.update({{"choice", row.choice.config}, {"ratio", row.choice.ratio}, {"thoroughness", row.choice.thoroughness}});
    write(json);
  }
  for (const ModelRow& row : models())
    write({{"machine", row.place.machine},
           {"compiler", row.place.compiler},
           {"space", row.place.space},
           {"model", row.model},
           {"tuned", row.choice.tuned},
           {"disabled", row.choice.disabled},
           {"ratio", row.choice.ratio}});
  writer.commit();
}

void check(const Row& row) {
  const Measurement& m = row.measurement;
  schedule::parse_kernel_config(m.config);
  const auto refuse = [](const char* what) { fail(ErrorKind::invalid_input, "a measurement with {}", what); };
  if (m.status < Measurement::Status::good || m.status > Measurement::Status::failed) refuse("an unknown status");
  if (!std::isfinite(m.ratio) || !std::isfinite(m.seconds) || m.ratio < 0 || m.seconds < 0 || std::isnan(m.error) || m.error < 0)
    refuse("a number that is none");
  if (m.status == Measurement::Status::good && (!(m.ratio > 0) || m.rounds < 1)) refuse("no time");
  if (row.place.space == space_version && m.features.size() != feature_count) refuse("features of another version");
  for (const float feature : m.features)
    if (!std::isfinite(feature)) refuse("a feature that is no number");
}

int64_t Database::add_all(const std::vector<Row>& measured, const std::vector<ChoiceRow>& chosen, const std::vector<ModelRow>& decided) {
  Transaction transaction(handle_);
  for (const Row& row : measured) put(row, false);
  for (const ChoiceRow& row : chosen) put(row);
  for (const ModelRow& row : decided) put(row, false);
  transaction.commit();
  return static_cast<int64_t>(measured.size());
}

int64_t Database::import_from(const std::filesystem::path& file) {
  std::istringstream in(read_file(file, int64_t{1} << 30));
  std::vector<Row> measured;
  std::vector<ChoiceRow> chosen;
  std::vector<ModelRow> decided;
  std::string line;
  int64_t number = 0;
  while (std::getline(in, line)) {
    ++number;
    try {
      const nlohmann::json json = nlohmann::json::parse(line);
      if (number == 1) {
        if (json.at("tilewright tuning").get<int>() != format) fail(ErrorKind::invalid_input, "another format");
        continue;
      }
      const Place place{json.at("machine"), json.at("compiler"), json.at("space")};
      if (json.contains("model")) {
        decided.push_back({place, json.at("model"), {json.at("tuned"), json.at("disabled"), json.at("ratio")}});
        continue;
      }
      const KernelKey kernel{json.at("signature"), json.at("shape"), json.at("form")};
      if (json.contains("choice")) {
        chosen.push_back({place, kernel, {json.at("choice"), json.at("ratio"), json.at("thoroughness")}});
        schedule::parse_kernel_config(chosen.back().choice.config);
        continue;
      }
      measured.push_back({place,
                          kernel,
                          {json.at("config"), static_cast<Measurement::Status>(json.at("status").get<int>()), json.at("ratio"), json.at("seconds"),
                           json.at("error"), json.at("rounds"), json.at("features")}});
      check(measured.back());
    } catch (const std::exception& problem) {
      fail(ErrorKind::invalid_input, "line {} of '{}' is no line of an exported tuning database: {}; nothing was imported", number, file.string(),
           problem.what());
    }
  }
  if (number == 0) fail(ErrorKind::invalid_input, "'{}' is empty; `tilewright tune export` writes such files", file.string());
  return add_all(measured, chosen, decided);
}

int64_t Database::merge(const Database& other) {
  const std::vector<Row> measured = other.all();
  const std::vector<ChoiceRow> chosen = other.choices();
  for (const Row& row : measured) check(row);
  for (const ChoiceRow& row : chosen) schedule::parse_kernel_config(row.choice.config);
  return add_all(measured, chosen, other.models());
}

int64_t Database::prune(const std::vector<std::string>& keep) {
  Transaction transaction(handle_);
  std::string others;
  for (size_t i = 0; i < keep.size(); ++i) others += fmt::format("{}substr(machine, 1, length(?{}))<>?{}", i ? " and " : "", i + 2, i + 2);
  const std::string gone = fmt::format("place in (select id from places where space<>?1 or ({}))", keep.empty() ? "true" : others);
  int64_t dropped = 0;
  for (const char* table : {"choices", "models", "measurements"}) {
    Statement statement(handle_, fmt::format("delete from {} where {}", table, gone).c_str());
    statement.bind(space_version);
    for (const std::string& one : keep) statement.bind(one);
    statement.run();
    dropped = sqlite3_changes(handle_);
  }
  Statement(handle_, "delete from places where id not in (select place from measurements union select place from choices union select place from models)")
      .run();
  Statement(handle_, "delete from kernels where id not in (select kernel from measurements union select kernel from choices)").run();
  transaction.commit();
  return dropped;
}

KernelKey key_of(const KernelSpace& space) {
  KernelKey key{space.signature, "", space.form};
  for (const auto& [name, value] : space.shape) key.shape += fmt::format("{}{}={}", key.shape.empty() ? "" : " ", name, value);
  return key;
}

std::optional<double> distance(const std::string& shape, const std::string& other) {
  const std::map<std::string, double> a = sizes_of(shape), b = sizes_of(other);
  double sum = 0;
  for (const auto& [name, value] : a) {
    const auto found = b.find(name);
    if (found == b.end()) return std::nullopt;
    sum += std::fabs(std::log2(std::max(value, 1.0)) - std::log2(std::max(found->second, 1.0)));
  }
  return a.size() == b.size() ? std::optional(sum) : std::nullopt;
}

std::filesystem::path default_database() {
  const char* const own = std::getenv("TILEWRIGHT_TUNING");
  return own != nullptr && *own != '\0' ? std::filesystem::path(own) : cache_folder() / "tuning.sqlite";
}

std::string machine_fingerprint(const std::string& machine, const Target& target, int threads) {
  return target.is_gpu() ? fmt::format("{}, {}", machine, target.name) : fmt::format("{}, {}, {} threads", machine, target.name, threads);
}

}  // namespace tilewright::tune
