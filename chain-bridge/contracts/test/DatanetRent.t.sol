// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DatanetRent, IDatanets, IEpochs} from "../src/DatanetRent.sol";
import {Suite} from "./Suite.sol";

/// @notice Says what Datanets there are.
contract Datanets {
    mapping(uint64 => uint64) public bytesOf;
    address public owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function kindOf(uint64 asset) external pure returns (uint8) {
        return asset < 10 ? 3 : 1;
    }

    function ownerOf(uint256) external view returns (address) {
        return owner;
    }

    function setBytes(uint64 datanet, uint64 bytes_) external {
        bytesOf[datanet] = bytes_;
    }

    function setOwner(address owner_) external {
        owner = owner_;
    }
}

/// @notice Counts epochs and takes money.
contract Epochs {
    uint64 public currentEpoch = 5;
    uint256 public received;

    function next(uint64 epochs) external {
        currentEpoch += epochs;
    }

    function receiveCollected() external payable {
        received += msg.value;
    }
}

contract DatanetRentTest is Suite {
    uint64 private constant NET = 1;
    uint64 private constant GIB = 2 ** 30;
    Datanets private nets;
    Epochs private clock;

    function setUp() public override {
        super.setUp();
        nets = new Datanets(author);
        clock = new Epochs();
        rent = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        nets.setBytes(NET, 2 * GIB);
        vm.deal(address(this), 1_000 ether);
        vm.prank(governor);
        rent.setAuditor(reviewer);
    }

    /// @dev Nobody could be paid: what would have accrued could never be moved.
    function test_nothing_accrues_before_an_auditor_is_named_and_all_of_it_can_be_taken_back() public {
        rent = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        rent.prepay{value: 10 ether}(NET);
        clock.next(3);
        rent.accrue(NET);
        eq("nothing", 0, rent.accountOf(NET).accrued);
        vm.prank(governor);
        rent.setPrice(0.5 ether);
        clock.next(2);
        vm.startPrank(author);
        rent.requestWithdraw(NET, 10 ether);
        clock.next(5);
        vm.warp(block.timestamp + RENT_DELAY);
        rent.withdraw(NET);
        vm.stopPrank();
        eq("all of it", 10 ether, author.balance);
        eq("held", 0, address(rent).balance);
        rent.prepay{value: 10 ether}(NET);
        clock.next(4);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyAuditor.selector, address(0), address(this)));
        rent.pay(NET, 1);
        vm.prank(governor);
        rent.setAuditor(reviewer);
        rent.accrue(NET);
        eq("the epochs before it cost nothing", 0, rent.accountOf(NET).accrued);
        clock.next(1);
        rent.accrue(NET);
        eq("the first one after", 1 ether, rent.accountOf(NET).accrued);
        vm.prank(reviewer);
        rent.pay(NET, 1 ether);
        eq("reaches Settlement", 1 ether, clock.received());
    }

    function testFuzz_without_an_auditor_what_is_prepaid_stays_prepaid(uint96[4] calldata sums, uint8[4] calldata steps, uint40 size) public {
        rent = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        uint256 in_ = 0;
        vm.deal(address(this), 1e30);
        for (uint256 i = 0; i < 4; ++i) {
            rent.prepay{value: uint256(sums[i]) + 1}(NET);
            in_ += uint256(sums[i]) + 1;
            nets.setBytes(NET, size);
            clock.next(steps[i]);
            rent.accrue(NET);
            eq("prepaid", in_, rent.accountOf(NET).prepaid);
        }
    }

    /// @dev As the event says.
    function test_what_somebody_else_prepaid_is_the_owners_to_take() public {
        vm.deal(client, 1 ether);
        vm.prank(client);
        rent.prepay{value: 1 ether}(NET);
        vm.startPrank(author);
        rent.requestWithdraw(NET, 1 ether);
        vm.warp(block.timestamp + RENT_DELAY);
        rent.withdraw(NET);
        vm.stopPrank();
        eq("the owner", 1 ether, author.balance);
        eq("who prepaid", 0, client.balance);
    }

    function test_rent_accrues_by_bytes_price_and_epochs() public {
        rent.prepay{value: 10 ether}(NET);
        rent.accrue(NET);
        eq("nothing yet", 0, rent.accountOf(NET).accrued);
        clock.next(3);
        rent.accrue(NET);
        eq("three epochs of two GiB", 6 ether, rent.accountOf(NET).accrued);
        eq("left", 4 ether, rent.accountOf(NET).prepaid);
        clock.next(3);
        rent.accrue(NET);
        eq("as far as it reaches", 10 ether, rent.accountOf(NET).accrued);
        eq("none left", 0, rent.accountOf(NET).prepaid);
        rent.prepay{value: 10 ether}(NET);
        eq("what was not prepaid is not owed", 10 ether, rent.accountOf(NET).prepaid);
        eq("held", 20 ether, address(rent).balance);
    }

    function test_growth_is_charged_from_when_it_is_seen() public {
        rent.prepay{value: 100 ether}(NET);
        nets.setBytes(NET, 10 * GIB);
        clock.next(1);
        rent.accrue(NET);
        eq("as seen before", 2 ether, rent.accountOf(NET).accrued);
        clock.next(1);
        rent.accrue(NET);
        eq("as grown", 12 ether, rent.accountOf(NET).accrued);
    }

    function test_a_fraction_of_a_wei_is_carried() public {
        vm.prank(governor);
        rent.setPrice(1);
        nets.setBytes(NET, GIB / 4);
        rent.prepay{value: 10}(NET);
        for (uint256 i = 1; i <= 8; ++i) {
            clock.next(1);
            rent.accrue(NET);
            eq("a wei each four epochs", i / 4, rent.accountOf(NET).accrued);
        }
    }

    function test_the_price_falls_at_once_and_rises_after_notice() public {
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyGovernor.selector, governor, address(this)));
        rent.setPrice(1);
        rent.prepay{value: 900 ether}(NET);
        vm.startPrank(governor);
        clock.next(1);
        rent.setPrice(0.5 ether);
        clock.next(1);
        rent.accrue(NET);
        eq("each epoch at its own price", 3 ether, rent.accountOf(NET).accrued);
        rent.setPrice(5 ether);
        eq("announced", block.timestamp + RENT_DELAY, rent.priceRisesAt());
        vm.warp(block.timestamp + RENT_DELAY - 1);
        clock.next(1);
        rent.accrue(NET);
        eq("not yet", 4 ether, rent.accountOf(NET).accrued);
        vm.warp(block.timestamp + 1);
        rent.accrue(NET);
        eq("the new price", 5 ether, rent.price());
        clock.next(1);
        rent.accrue(NET);
        eq("from then on", 14 ether, rent.accountOf(NET).accrued);
        rent.setPrice(8 ether);
        rent.setPrice(4 ether);
        eq("a fall takes a rise back", 0, rent.priceRisesAt());
        vm.stopPrank();
    }

    function test_the_owner_takes_the_unspent_rest_after_the_delay() public {
        rent.prepay{value: 10 ether}(NET);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyDatanetOwner.selector, author, address(this)));
        rent.requestWithdraw(NET, 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyDatanetOwner.selector, author, address(this)));
        rent.withdraw(NET);
        vm.startPrank(author);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NothingLeaving.selector, NET));
        rent.withdraw(NET);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotEnough.selector, 10 ether, 11 ether));
        rent.requestWithdraw(NET, 11 ether);
        rent.requestWithdraw(NET, 9 ether);
        uint256 until = block.timestamp + RENT_DELAY;
        clock.next(1);
        vm.warp(until - 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.StillWaiting.selector, until, until - 1));
        rent.withdraw(NET);
        vm.warp(until);
        rent.withdraw(NET);
        eq("what rent left of it", 8 ether, author.balance);
        eq("held", 2 ether, address(rent).balance);
        rent.requestWithdraw(NET, 0);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NothingLeaving.selector, NET));
        rent.withdraw(NET);
        vm.stopPrank();
    }

    function test_only_the_auditor_moves_accrued_rent_and_only_to_settlement() public {
        rent.prepay{value: 10 ether}(NET);
        clock.next(2);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyAuditor.selector, reviewer, address(this)));
        rent.pay(NET, 1);
        vm.startPrank(governor);
        DatanetRent unnamed = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "auditor"));
        unnamed.setAuditor(address(0));
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.AuditorAlreadySet.selector, reviewer));
        rent.setAuditor(author);
        vm.stopPrank();
        vm.startPrank(reviewer);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotEnough.selector, 4 ether, 5 ether));
        rent.pay(NET, 5 ether);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotEnough.selector, 4 ether, 0));
        rent.pay(NET, 0);
        rent.pay(NET, 3 ether);
        vm.stopPrank();
        eq("settlement", 3 ether, clock.received());
        eq("accrued", 1 ether, rent.accountOf(NET).accrued);
        eq("held", 7 ether, address(rent).balance);
    }

    function test_wrong_values_are_refused() public {
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotADatanet.selector, 10));
        rent.prepay{value: 1}(10);
        vm.expectRevert(DatanetRent.ZeroAmount.selector);
        rent.prepay(NET);
        uint256 tooMuch = uint256(type(uint128).max) + 1;
        vm.deal(address(this), tooMuch);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.AmountTooLarge.selector, tooMuch));
        rent.prepay{value: tooMuch}(NET);
        IDatanets registry_ = IDatanets(address(nets));
        IEpochs epochs = IEpochs(address(clock));
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "registry"));
        new DatanetRent(IDatanets(address(0)), epochs, governor, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "settlement"));
        new DatanetRent(registry_, IEpochs(address(0)), governor, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "governor"));
        new DatanetRent(registry_, epochs, address(0), 1, 1);
        vm.startPrank(governor);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "governor"));
        rent.setGovernor(address(0));
        rent.setGovernor(author);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyGovernor.selector, author, governor));
        rent.setGovernor(governor);
        vm.stopPrank();
    }

    function test_the_real_registry_counts_the_bytes() public {
        rent = new DatanetRent(IDatanets(address(registry)), IEpochs(address(settlement)), governor, 1, 1);
        vm.prank(author);
        uint64 datanet = registry.register(3, "");
        rent.prepay{value: 1}(datanet);
        eq("prepaid", 1, rent.accountOf(datanet).prepaid);
        eq("no bytes yet", 0, rent.accountOf(datanet).bytesKept);
    }

    function testFuzz_every_wei_is_prepaid_or_accrued(uint64[5] calldata sums, uint8[5] calldata steps, uint40[5] calldata sizes) public {
        uint256 in_ = 0;
        for (uint256 i = 0; i < 5; ++i) {
            rent.prepay{value: uint256(sums[i]) + 1}(NET);
            in_ += uint256(sums[i]) + 1;
            nets.setBytes(NET, sizes[i]);
            clock.next(steps[i]);
            rent.accrue(NET);
            DatanetRent.Account memory account = rent.accountOf(NET);
            eq("books", in_, uint256(account.prepaid) + account.accrued);
            eq("held", in_, address(rent).balance);
        }
    }
}
