#include "model_io.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "support/check.h"

namespace qgbdt {
namespace {

constexpr std::string_view kMagic = "qgbdt-model 1";

constexpr std::pair<ObjectiveKind, const char*> kObjectives[] = {
    {ObjectiveKind::regression, "regression"}, {ObjectiveKind::poisson, "poisson"},
    {ObjectiveKind::gamma, "gamma"},           {ObjectiveKind::tweedie, "tweedie"},
    {ObjectiveKind::binary, "binary"},         {ObjectiveKind::multiclass, "multiclass"},
    {ObjectiveKind::lambdarank, "lambdarank"},
};

// CRC-32 (IEEE 802.3, reflected), for accidents: it does not keep an attacker out, the checks do.
uint32_t crc32(std::string_view data) {
  static constexpr auto table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] & 1 ? (t[i] >> 1) ^ 0xEDB88320u : t[i] >> 1;
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (char c : data) crc = table[(crc ^ uint8_t(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

// ---- writing ----

class Writer {
 public:
  void word(std::string_view w) {
    if (!text_.empty() && text_.back() != '\n') text_ += ' ';
    text_ += w;
  }
  // Shortest digits that read back as the same bits.
  template <class T>
  void number(T x) {
    char buffer[32];
    word({buffer, size_t(std::to_chars(buffer, buffer + sizeof buffer, x).ptr - buffer)});
  }
  void end_line() { text_ += '\n'; }
  std::string take_with_checksum() {
    char hex[8];
    const uint32_t crc = crc32(text_);
    for (int i = 0; i < 8; ++i) hex[i] = "0123456789abcdef"[(crc >> (28 - 4 * i)) & 15];
    word("checksum");
    word({hex, 8});
    end_line();
    return std::move(text_);
  }

 private:
  std::string text_;
};

// A name in quotes, with \" \\ and \u00XX for control characters (a subset of JSON's escapes).
std::string quote(std::string_view name) {
  std::string out = "\"";
  for (char c : name) {
    if (c == '"' || c == '\\') out += '\\';
    if (uint8_t(c) < 0x20) {
      out += "\\u00";
      out += "0123456789abcdef"[uint8_t(c) >> 4];
      out += "0123456789abcdef"[uint8_t(c) & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

void write_node(Writer& out, const Node& node) {
  if (node.feature >= 0) {
    out.word("split");
    out.number(node.feature);
    out.number(node.threshold);
    out.word(node.missing_left ? "missing-left" : "missing-right");
    out.number(node.left);
    out.number(node.right);
    out.number(node.gain);
  } else {
    out.word("leaf");
    out.number(node.value);
  }
  out.number(node.count);
  out.number(node.sum_hessian);
  out.end_line();
}

// ---- reading ----

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw ModelFormatError("not a sound qgbdt model: " + what + " (line " + std::to_string(line_) +
                           ")");
  }

  void next_line() {
    const size_t end = rest_.find('\n');
    if (end == std::string_view::npos) fail("the text ends early");
    current_ = rest_.substr(0, end);
    rest_ = rest_.substr(end + 1);
    first_word_ = true;
    ++line_;
  }

  std::string_view word() {
    separator();
    const size_t end = std::min(current_.find(' '), current_.size());
    if (end == 0) fail("a word is missing");
    const std::string_view w = current_.substr(0, end);
    current_ = current_.substr(end);
    return w;
  }

  void expect(std::string_view w) {
    if (word() != w) fail("expected '" + std::string(w) + "'");
  }

  template <class T>
  T number(T low, T high) {
    const std::string_view w = word();
    T x{};
    const auto [end, error] = std::from_chars(w.data(), w.data() + w.size(), x);
    if (error != std::errc() || end != w.data() + w.size())
      fail("'" + std::string(w.substr(0, 40)) + "' is not a number");
    if (!(low <= x && x <= high)) fail(std::string(w.substr(0, 40)) + " is out of range");
    return x;
  }

  double real() { return number(-kMaxReal, kMaxReal); }

  std::string quoted() {
    separator();
    if (current_.empty() || current_[0] != '"') fail("expected a quoted name");
    std::string out;
    size_t i = 1;
    for (;; ++i) {
      if (i >= current_.size()) fail("a quoted name does not end");
      char c = current_[i];
      if (c == '"') break;
      if (uint8_t(c) < 0x20) fail("a control character in a name");
      if (c == '\\') c = escaped(&i);
      out += c;
    }
    current_ = current_.substr(i + 1);
    return out;
  }

  void end_line() {
    if (!current_.empty()) fail("the line goes on");
  }

  size_t bytes_left() const { return rest_.size(); }
  bool at_end() const { return rest_.empty(); }

  static constexpr double kMaxReal = 1.7976931348623157e308;

 private:
  void separator() {
    if (!std::exchange(first_word_, false)) {
      if (current_.empty() || current_[0] != ' ') fail("a word is missing");
      current_ = current_.substr(1);
    }
  }

  char escaped(size_t* i) {
    const std::string_view tail = current_.substr(*i + 1);
    if (!tail.empty() && (tail[0] == '"' || tail[0] == '\\')) {
      *i += 1;
      return tail[0];
    }
    unsigned code = 0;
    if (tail.size() < 5 || tail.substr(0, 3) != "u00" ||
        std::from_chars(tail.data() + 3, tail.data() + 5, code, 16).ptr != tail.data() + 5 ||
        code >= 0x20)
      fail("a bad escape in a name");
    *i += 5;
    return char(code);
  }

  std::string_view rest_, current_;
  bool first_word_ = true;
  int64_t line_ = 0;
};

std::string_view checked_body(std::string_view text) {
  constexpr size_t kChecksumLine = 9 + 8 + 1;  // "checksum " + 8 digits + newline
  if (text.substr(0, kMagic.size() + 1) != std::string(kMagic) + "\n")
    throw ModelFormatError("not a qgbdt model: it must begin with '" + std::string(kMagic) + "'");
  if (text.size() < kChecksumLine) throw ModelFormatError("the model text ends early");
  const std::string_view body = text.substr(0, text.size() - kChecksumLine);
  Writer expected;
  std::string last_line = "checksum ";
  for (int i = 0; i < 8; ++i)
    last_line += "0123456789abcdef"[(crc32(body) >> (28 - 4 * i)) & 15];
  last_line += '\n';
  if (text.substr(body.size()) != last_line)
    throw ModelFormatError("the model text is damaged: its checksum does not match");
  return body;
}

Node read_node(Reader& in, int32_t index, int32_t n_nodes, int32_t n_features,
               std::vector<bool>& has_parent) {
  Node node;
  in.next_line();
  const std::string_view kind = in.word();
  if (kind == "split") {
    node.feature = in.number<int32_t>(0, n_features - 1);
    // -inf: only -inf goes left; +inf: every value goes left and missing ones right
    node.threshold = in.number<double>(-HUGE_VAL, HUGE_VAL);
    const std::string_view side = in.word();
    if (side != "missing-left" && side != "missing-right") in.fail("expected missing-left|right");
    node.missing_left = side == "missing-left";
    for (int32_t* child : {&node.left, &node.right}) {
      *child = in.number<int32_t>(index + 1, n_nodes - 1);  // after its parent: no cycles
      if (has_parent[*child]) in.fail("a node has two parents");
      has_parent[*child] = true;
    }
    node.gain = in.number<double>(0, Reader::kMaxReal);
  } else if (kind == "leaf") {
    node.value = in.real();
  } else {
    in.fail("expected 'split' or 'leaf'");
  }
  node.count = in.number<int64_t>(0, INT64_MAX);
  node.sum_hessian = in.number<double>(0, Reader::kMaxReal);
  in.end_line();
  return node;
}

Tree read_tree(Reader& in, int64_t tree_index, int32_t n_features) {
  in.next_line();
  in.expect("tree");
  in.number<int64_t>(tree_index, tree_index);
  in.expect("nodes");
  // A node takes at least 11 bytes ("leaf 0 0 0\n"), so a false size cannot claim much memory.
  const int32_t n_nodes = in.number<int32_t>(1, int32_t(std::min<size_t>(in.bytes_left() / 11, 1 << 30)));
  in.end_line();
  Tree tree;
  tree.reserve(n_nodes);
  std::vector<bool> has_parent(n_nodes, false);
  has_parent[0] = true;
  for (int32_t i = 0; i < n_nodes; ++i) {
    tree.push_back(read_node(in, i, n_nodes, n_features, has_parent));
    if (!has_parent[i]) in.fail("a node has no parent");
  }
  return tree;
}

}  // namespace

const char* objective_name(ObjectiveKind kind) {
  for (const auto& [k, name] : kObjectives)
    if (k == kind) return name;
  return "";
}

bool objective_from_name(std::string_view name, ObjectiveKind* kind) {
  for (const auto& [k, n] : kObjectives) {
    if (name != n) continue;
    *kind = k;
    return true;
  }
  return false;
}

std::string model_to_text(const Model& model) {
  Writer out;
  out.word(kMagic);
  out.end_line();
  out.word("objective");
  out.word(objective_name(model.objective));
  out.end_line();
  out.word("outputs");
  out.number(model.n_outputs);
  out.end_line();
  out.word("base_score");
  for (double score : model.base_score) out.number(score);
  out.end_line();
  out.word("features");
  out.number(model.n_features());
  out.end_line();
  for (const std::string& name : model.feature_names) {
    out.word(quote(name));
    out.end_line();
  }
  out.word("trees");
  out.number(model.trees.size());
  out.end_line();
  for (size_t i = 0; i < model.trees.size(); ++i) {
    out.word("tree");
    out.number(i);
    out.word("nodes");
    out.number(model.trees[i].size());
    out.end_line();
    for (const Node& node : model.trees[i]) write_node(out, node);
  }
  return out.take_with_checksum();
}

Model model_from_text(std::string_view text) {
  Reader in(checked_body(text));
  Model model;
  in.next_line();  // the magic, already checked
  in.next_line();
  in.expect("objective");
  if (!objective_from_name(in.word(), &model.objective)) in.fail("unknown objective");
  in.end_line();
  in.next_line();
  in.expect("outputs");
  model.n_outputs = in.number<int32_t>(1, 1 << 20);
  if ((model.n_outputs > 1) != (model.objective == ObjectiveKind::multiclass))
    in.fail("the objective does not have that many outputs");
  in.end_line();
  in.next_line();
  in.expect("base_score");
  for (int32_t k = 0; k < model.n_outputs; ++k) model.base_score.push_back(in.real());
  in.end_line();
  in.next_line();
  in.expect("features");
  const int32_t n_features =
      in.number<int32_t>(1, int32_t(std::min<size_t>(in.bytes_left() / 3, 1 << 30)));
  in.end_line();
  for (int32_t f = 0; f < n_features; ++f) {
    in.next_line();
    model.feature_names.push_back(in.quoted());
    in.end_line();
  }
  in.next_line();
  in.expect("trees");
  const int64_t n_trees = in.number<int64_t>(0, int64_t(in.bytes_left()));
  if (n_trees % model.n_outputs != 0) in.fail("an iteration is not complete");
  in.end_line();
  for (int64_t t = 0; t < n_trees; ++t) model.trees.push_back(read_tree(in, t, n_features));
  if (!in.at_end()) in.fail("the text goes on after the last tree");
  return model;
}

}  // namespace qgbdt
