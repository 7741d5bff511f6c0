#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "comm/topology.h"

namespace mixserve::comm {

/// The residual stream between pipeline stages: each rank's owned rows go to the same place in the next
/// stage's node. Stage s is node n_nodes - 1 - s, so that the last stage is the first node. The topology is
/// borrowed.
class PipelineLink {
  public:
    explicit PipelineLink(const Topology& topology);
    ~PipelineLink();
    PipelineLink(const PipelineLink&) = delete;
    PipelineLink& operator=(const PipelineLink&) = delete;

    int stage() const { return stage_; }
    int n_stages() const { return n_stages_; }

    /// Starts to send to the next stage and returns; the values are copied. Waits only for the send before
    /// the last one.
    void send(std::span<const float> rows);
    /// Waits for as many values from the stage before.
    void receive(std::span<float> rows);

  private:
    struct Slots;
    const Communicator& lane_;
    int stage_;
    int n_stages_;
    std::unique_ptr<Slots> slots_;
};

}  // namespace mixserve::comm
